package containers

// Sweep is what Close does with the directory of staging directories.
func Sweep(root string) error { return sweep(root, stagingPrefix) }

// MendLinks is what Open does before the library opens the store.
var MendLinks = mendLinks

// KeepReserve is what Open does with the reserve.
func (s *Store) KeepReserve() error { return s.keepReserve() }
