package containers

import cs "go.podman.io/storage"

// Sweep is what Close does with the directory of staging directories.
func Sweep(root string) error { return sweep(root, stagingPrefix) }

// MendLinks is what Open does before the library opens the store.
var MendLinks = mendLinks

// KeepReserve is what Open does with the reserve.
func (s *Store) KeepReserve() error { return s.reserve.keep() }

// Freeing runs what removes images or layers.
func (s *Store) Freeing(fn func() error) error { return s.reserve.freeing(fn) }

// Storage is the library's own handle.
func (s *Store) Storage() cs.Store { return s.storage }

// VerifyImage and ByConfig are the checks of an image by the library's handle.
var (
	VerifyImage = verifyImage
	ByConfig    = byConfig
)
