package copy

import (
	"context"
	"errors"
)

func (s *Selection) addURL(_ context.Context, src string) error {
	return errors.New("source " + src + ": ADD of URLs is not supported yet")
}

func (w *walker) addParents(_ string) error { return errors.New("--parents is not supported yet") }

func (w *writer) writeArchive(_ *item) error {
	return errors.New("ADD of archives is not supported yet")
}
