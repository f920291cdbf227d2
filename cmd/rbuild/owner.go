package main

import (
	"encoding/json"
	"os"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
)

// ownerVar tells the builder, in JSON, which process the user has started: the builder may see no number but its own.
const ownerVar = "_RBUILD_OWNER"

// ownerEnv is what the launcher tells. Without /proc nobody is told.
func ownerEnv() []string {
	self, err := containers.Self()
	if err != nil {
		return nil
	}
	text, err := json.Marshal(self)
	if err != nil {
		return nil
	}
	return []string{ownerVar + "=" + string(text)}
}

// takeOwner is what the builder was told. The variable is not for those that it starts.
func takeOwner() (o containers.Owner) {
	text, ok := os.LookupEnv(ownerVar)
	if ok && json.Unmarshal([]byte(text), &o) != nil || os.Unsetenv(ownerVar) != nil {
		return containers.Owner{}
	}
	return o
}
