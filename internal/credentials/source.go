package credentials

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/ossmount/ossmount/internal/remote"
)

// ErrNoAnswer is in the error of a service that could not be asked.
var ErrNoAnswer = errors.New("no answer")

// Forms is how the sources are written, for the help and for errors.
const Forms = "auto, env, file:PATH, ecs[:ROLE], oidc, process:COMMAND or assume-role:ARN[,from=SOURCE]"

// New returns the source that spec names. It reads the environment, and a file if
// that is the source, and fails where something is missing there.
func New(spec string) (remote.Credentials, error) {
	kind, rest, given := strings.Cut(spec, ":")
	if given == (rest == "") || given && (kind == "auto" || kind == "env" || kind == "oidc") {
		kind = ""
	}
	switch kind {
	case "auto":
		return auto()
	case "env":
		return newEnv()
	case "oidc":
		return newOIDC()
	case "ecs":
		return newECS(rest)
	}
	if given {
		switch kind {
		case "file":
			return newFile(rest)
		case "process":
			return newProcess(rest)
		case "assume-role":
			return newRole(rest)
		}
	}
	return nil, fmt.Errorf("--credentials=%s: use %s", spec, Forms)
}

// auto takes the first source that is configured. That one may fail: another one is
// not tried, since it would be another account, and perhaps with other rights.
func auto() (remote.Credentials, error) {
	switch {
	case isSet(envNames.id, envNames.secret), isSet(cloudNames.id, cloudNames.secret):
		return newEnv()
	case isSet(envTokenFile):
		return newOIDC()
	case os.Getenv(envNoMetadata) != "true" && (isSet(envECSRole) || onECS()):
		return newECS("")
	}
	return nil, fmt.Errorf("no credentials: set the environment variables %s and %s, or name another source: --credentials=%s",
		envNames.id, envNames.secret, strings.TrimPrefix(Forms, "auto, env, "))
}

// isSet reports that one of the environment variables is.
func isSet(names ...string) bool {
	for _, name := range names {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}
