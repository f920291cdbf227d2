// Hello says who it runs as.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Printf("hello from Go as user %d\n", os.Getuid())
}
