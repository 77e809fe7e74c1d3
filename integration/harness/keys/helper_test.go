package keys

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/aliyun/credentials-go/credentials/providers"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func built(t *testing.T, p providers.CredentialsProvider, err error) providers.CredentialsProvider {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Without a token the metadata service tells nothing, as in its hardened mode.
func TestMetadataNeedAToken(t *testing.T) {
	h := httptest.NewServer(newService())
	defer h.Close()
	resp, err := http.Get(h.URL + rolesPath)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %d, want 403", resp.StatusCode)
	}
}
