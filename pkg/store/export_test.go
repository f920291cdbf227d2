package store

// Sweep is what Close does with the directory of staging directories.
var Sweep = sweep

// MendLinks is what Open does before the library opens the store.
var MendLinks = mendLinks
