package transfer

import "fmt"

// OtherPlatformError says that the store has an image of that name for another platform, and why
// the wanted image cannot be pulled.
type OtherPlatformError struct {
	Name       string // as the caller wrote it
	Have, Want string // OS/ARCH[/VARIANT], for example "linux/arm64"
	Err        error
}

func (e *OtherPlatformError) Error() string {
	return fmt.Sprintf("%s is for %s in the store, wanted is %s: %v", e.Name, e.Have, e.Want, e.Err)
}

// Unwrap returns the reason.
func (e *OtherPlatformError) Unwrap() error { return e.Err }
