package source

import (
	"testing"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }
