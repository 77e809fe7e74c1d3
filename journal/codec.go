package journal

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"github.com/ossmount/ossmount/internal/codec"
)

const codecVersion = 1 // first byte of each value

// encode returns what the database shall hold for what v points to.
func encode(v any) ([]byte, error) {
	if r := record(v); r != nil {
		b := append(make([]byte, 0, 512), codecVersion) // most are smaller
		if b, ok := codec.Write(b, r); ok {
			return b, nil
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append([]byte{codecVersion}, b...), nil
}

// decode reads what the database holds into what v points to, which is zero.
func decode(b []byte, v any) error {
	if len(b) == 0 {
		return fmt.Errorf("journal: empty value")
	}
	if b[0] > codecVersion {
		return fmt.Errorf("journal: value of format %d, this program knows %d: use the newer ossmount that wrote it (%w)", b[0], codecVersion, ErrNewer)
	}
	if b[0] != codecVersion {
		return fmt.Errorf("journal: value of format %d", b[0])
	}
	if n, ok := v.(*int64); ok {
		if *n, ok = wholeNumber(b[1:]); ok {
			return nil
		}
	}
	if r := record(v); r != nil {
		if codec.Read(b[1:], r) {
			return nil
		}
		reflect.ValueOf(v).Elem().SetZero()
	}
	return json.Unmarshal(b[1:], v)
}

// wholeNumber reads what encoding/json writes for one.
func wholeNumber(b []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || string(strconv.AppendInt(nil, n, 10)) != string(b) {
		return 0, false
	}
	return n, true
}
