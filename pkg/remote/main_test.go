package remote

import (
	"testing"

	"codeberg.org/rbuild/rbuild/pkg/internal/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }
