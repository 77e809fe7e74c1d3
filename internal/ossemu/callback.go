package ossemu

import (
	"encoding/base64"
	"encoding/json"
)

// A callback makes OSS call a server of the client's once an object is stored,
// and answer with what that server says. This server calls nobody, so to a
// client it looks as OSS does when the client's server cannot be reached: the
// object is stored, and the answer is CallbackFailed.

// callback reads what the request asks to be called.
func (c *call) callback() (asked bool, err error) {
	const name = "x-oss-callback"
	v := c.r.Header.Get(name)
	if v == "" {
		v = c.query.get("callback")
	}
	if v == "" {
		return false, nil
	}
	var wish struct{ CallbackUrl, CallbackBody string }
	text, err := base64.StdEncoding.DecodeString(v)
	if err != nil || json.Unmarshal(text, &wish) != nil || wish.CallbackUrl == "" || wish.CallbackBody == "" {
		return false, invalidArgument(name, v, "The callback configuration is not base64 encoded JSON with callbackUrl and callbackBody.")
	}
	return true, nil
}

var errCallback = refuse(203, "CallbackFailed", "Error status : -1. The server does not call back.", "0007-00000203")
