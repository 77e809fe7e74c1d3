package credentials

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

const (
	// dialTimeout bounds the way to a service, askTimeout all that is asked of it.
	dialTimeout = 3 * time.Second
	askTimeout  = 15 * time.Second
)

// newClient makes a client of a service that is asked once in a while: it keeps no
// connection. It follows no redirect, because what is sent is for one host.
func newClient(proxy func(*http.Request) (*url.URL, error)) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               proxy,
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout: dialTimeout,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
			DisableKeepAlives:   true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// reply is what a service has answered.
type reply struct {
	status int
	body   []byte
}

// ask makes one request of the service that is called what. Its error tells of the
// URL no more than the host: the rest may hold a key.
func ask(ctx context.Context, c *http.Client, what string, req *http.Request) (reply, error) {
	resp, err := c.Do(req.WithContext(ctx))
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return reply{}, fmt.Errorf("%s at %s: %w: %w", what, req.URL.Host, ErrNoAnswer, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return reply{}, fmt.Errorf("%s at %s: %w: the answer breaks off: %w", what, req.URL.Host, ErrNoAnswer, err)
	case resp.StatusCode >= 500:
		return reply{}, fmt.Errorf("%s at %s: %w: it is out of order (status %d)", what, req.URL.Host, ErrNoAnswer, resp.StatusCode)
	}
	return reply{resp.StatusCode, body}, nil
}

// said is what a service or a command says, as one line of no more than 200
// characters, without the secrets that it was told.
func said(text string, secrets ...string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "...")
			text = strings.ReplaceAll(text, url.QueryEscape(s), "...")
		}
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = strings.Join(strings.Fields(text), " ")
	if short := []rune(text); len(short) > 200 {
		text = string(short[:200]) + "..."
	}
	return text
}

// isLoopback reports a host that is this machine by its very name.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
