package ossemu

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ParseFault reads a fault as a flag or a line of a file writes it: what it
// does, then fields by their JSON names,
//
//	reset,at=after,op=CompleteMultipartUpload,count=1
//	error,code=TotalQpsLimitExceeded,above=100
//
// or, for a value with a comma in it, the JSON object of Fault.
func ParseFault(spec string) (Fault, error) {
	f, err := readFault(strings.TrimSpace(spec))
	if err == nil {
		err = f.check()
	}
	if err == nil {
		_, err = f.matcher()
	}
	if err != nil {
		return f, fmt.Errorf("fault %q: %w", spec, err)
	}
	return f, nil
}

func readFault(spec string) (f Fault, err error) {
	if strings.HasPrefix(spec, "{") {
		if err := strictJSON([]byte(spec), &f); err != nil {
			return f, fmt.Errorf("%w: the fields are do, at, %s", err, strings.Join(fieldNames, ", "))
		}
		return f, nil
	}
	for i, item := range strings.Split(spec, ",") {
		name, value, found := strings.Cut(item, "=")
		switch {
		case i == 0 && !found:
			f.Do = item
		case !found:
			return f, fmt.Errorf("%q is not of the form name=value; a value with a comma needs the form of JSON", item)
		default:
			if err := f.set(name, value); err != nil {
				return f, err
			}
		}
	}
	return f, nil
}

// strictJSON reads one JSON value without fields that v does not have.
func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is something behind the JSON value")
	}
	return nil
}

var fieldNames = []string{"op", "bucket", "key", "part", "skip", "count", "probability", "seed", "above",
	"for", "by", "bytes", "rate", "status", "code", "message", "what", "object", "content"}

// set sets the field of a name.
func (f *Fault) set(name, value string) (err error) {
	should := "a number"
	switch name {
	case "do":
		f.Do = value
	case "at":
		f.At = value
	case "op":
		f.Op = value
	case "bucket":
		f.Bucket = value
	case "key":
		f.Key = value
	case "part":
		f.Part = value
	case "skip":
		f.Skip, err = strconv.ParseInt(value, 10, 64)
	case "count":
		f.Count, err = strconv.ParseInt(value, 10, 64)
	case "probability":
		f.Probability, err = strconv.ParseFloat(value, 64)
	case "seed":
		f.Seed, err = strconv.ParseUint(value, 10, 64)
	case "above":
		f.Above, err = strconv.ParseFloat(value, 64)
	case "for":
		should, err = "a duration such as 250ms", f.For.UnmarshalText([]byte(value))
	case "by":
		should, err = "a duration such as 20m or -20m", f.By.UnmarshalText([]byte(value))
	case "bytes":
		f.Bytes = new(int64)
		*f.Bytes, err = strconv.ParseInt(value, 10, 64)
	case "rate":
		should = "a number of bytes per second"
		f.Rate, err = strconv.ParseInt(value, 10, 64)
	case "status":
		f.Status, err = strconv.Atoi(value)
	case "code":
		f.Code = value
	case "message":
		f.Message = value
	case "what":
		f.What = value
	case "object":
		f.Object = value
	case "content":
		f.Content = value
	default:
		return fmt.Errorf("there is no field %q: the fields are do, at, %s", name, strings.Join(fieldNames, ", "))
	}
	if err != nil {
		return fmt.Errorf("%s=%s is not %s", name, value, should)
	}
	return nil
}

// ParseFaults reads a file of faults, one on each line; empty lines and those
// that begin with # say nothing.
func ParseFaults(r io.Reader) (list []Fault, err error) {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		f, err := ParseFault(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		list = append(list, f)
	}
	return list, lines.Err()
}
