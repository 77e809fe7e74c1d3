package harness

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"os"
)

// slotSize is the size of each of the two slots of a horizon file (docs/format.md).
const slotSize = 4096

// EachSlot changes what the slots of a horizon file say, as another program would.
func EachSlot(path string, change func(slot map[string]any)) error {
	file, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for b := file; len(b) >= slotSize; b = b[slotSize:] {
		n := binary.LittleEndian.Uint32(b[4:])
		if n == 0 || n > slotSize-8 {
			continue
		}
		var slot map[string]any
		d := json.NewDecoder(bytes.NewReader(b[8 : 8+n]))
		d.UseNumber()
		if err := d.Decode(&slot); err != nil {
			return err
		}
		change(slot)
		text, err := json.Marshal(slot)
		if err != nil {
			return err
		}
		clear(b[:slotSize])
		copy(b[8:], text)
		binary.LittleEndian.PutUint32(b[4:], uint32(len(text)))
		binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:8+len(text)], crc32.MakeTable(crc32.Castagnoli)))
	}
	return os.WriteFile(path, file, 0o600)
}
