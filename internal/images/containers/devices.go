package containers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/sirupsen/logrus"
	cs "go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// leaveOutDevices removes the device nodes of the layer id. names are the entries of device nodes
// in the layer's tar, and shown is the layer in messages. The library makes no device nodes for an
// ordinary user. For real root it makes them, and each node is a device of the host. The tar of the
// layer keeps its entries and its digest.
func leaveOutDevices(st cs.Store, id, shown string, names []string) error {
	if len(names) == 0 {
		return nil
	}

	if len(names) == 1 {
		logrus.Warnf("layer %s: %q is a device and left out", shown, names[0])
	} else {
		logrus.Warnf("layer %s: %d devices are left out, %q the first", shown, len(names), names[0])
	}

	driver, err := st.GraphDriver()
	if err != nil {
		return fmt.Errorf("looking for devices of a layer: %w", err)
	}

	differ, ok := driver.(graphdriver.DriverWithDiffer)
	if !ok {
		return fmt.Errorf("looking for devices of a layer: the storage driver %s is not supported", driver)
	}

	dir, err := differ.DifferTarget(id)
	if err != nil {
		return fmt.Errorf("looking for devices of a layer: %w", err)
	}

	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("looking for devices of a layer: %w", err)
	}

	root := fdfs.OnDisk(f)
	if err := errors.Join(removeAllDevices(root, names), root.Close()); err != nil {
		return fmt.Errorf("removing the devices of a layer: %w", err)
	}
	return nil
}

func removeAllDevices(root fdfs.Dir, names []string) error {
	if err := removeDevices(root); err != nil {
		return err
	}
	return removeFalseWhiteouts(root, names)
}

// removeDevices removes all device nodes below dir but not whiteouts. It searches the directories,
// because the names of the tar's entries may lead through links.
func removeDevices(dir fdfs.Dir) error {
	names, err := dir.Names()
	if err != nil {
		return err
	}

	for _, name := range names {
		st, err := dir.Stat(name)
		switch {
		case err != nil:
		case st.Type == fdfs.Directory:
			err = removeDevicesBelow(dir, name)
		case isDevice(st) && st.Rdev != 0:
			err = unlinkQuietly(dir, name)
		}
		if err != nil {
			return err
		}
	}

	return nil
}

func removeDevicesBelow(dir fdfs.Dir, name string) error {
	sub, err := dir.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(removeDevices(sub), sub.Close())
}

// removeFalseWhiteouts removes the device nodes of names with the number 0:0, which overlayfs takes
// for whiteouts. A whiteout in a layer is an entry named .wh.NAME (image-spec, layer.md).
func removeFalseWhiteouts(root fdfs.Dir, names []string) error {
	c := fdfs.NewCursor(root)
	defer c.Close()

	for _, name := range names {
		dir, base := path.Split(name)
		err := c.Enter("/"+dir, nil)
		if err == nil {
			var st fdfs.Stat
			if st, err = c.Dir().Stat(base); err == nil && isDevice(st) {
				err = unlinkQuietly(c.Dir(), base)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !fdfs.IsNotDir(err) {
			return err
		}
	}

	return nil
}

func isDevice(st fdfs.Stat) bool { return st.Type == fdfs.CharDevice || st.Type == fdfs.BlockDevice }

// unlinkQuietly removes name of dir. The modification time of dir stays.
func unlinkQuietly(dir fdfs.Dir, name string) error {
	st, err := dir.Stat(".")
	if err != nil {
		return err
	}
	if err := dir.Unlink(name); err != nil {
		return err
	}
	return dir.SetAttributes(".", fdfs.Attributes{Mtime: &st.Mtime})
}
