"""Says which Python it runs on, and where."""
import os
import platform

print("hello from Python %s in %s" % (platform.python_version(), os.getcwd()))
