package transfer

import (
	"errors"
	"fmt"

	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage/pkg/configfile"
)

// policyContext loads the signature policy for sys. If the user names no policy and none is
// installed, every image is accepted. The caller destroys the context.
func policyContext(sys *types.SystemContext) (*signature.PolicyContext, error) {
	policy, err := signature.DefaultPolicy(sys)
	if sys.SignaturePolicyPath == "" && errors.Is(err, configfile.ErrConfigFileNotFound) {
		return signature.NewPolicyContext(acceptAnything())
	}
	if err != nil {
		return nil, fmt.Errorf("reading the signature policy: %w", err)
	}
	return signature.NewPolicyContext(policy)
}

// localPolicyContext returns the policy for copies out of the store. Images were checked when they
// came into the store. podman and buildah do the same.
func localPolicyContext() (*signature.PolicyContext, error) {
	return signature.NewPolicyContext(acceptAnything())
}

func acceptAnything() *signature.Policy {
	return &signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}}
}

// CheckPolicyFile refuses a file that is not a signature policy (containers-policy.json(5)). The
// name "" is accepted.
func CheckPolicyFile(file string) error {
	if file == "" {
		return nil
	}
	_, err := signature.NewPolicyFromFile(file)
	return err
}
