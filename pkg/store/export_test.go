package store

// Sweep is what Close does with the directory of staging directories.
var Sweep = sweep
