package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// canon encodes fields so that different fields never give the same text: the length precedes each
// field, as in "1:a2:bc". Bytes that are not UTF-8 are kept.
func canon(fields ...string) string {
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(strconv.Itoa(len(f)))
		b.WriteByte(':')
		b.WriteString(f)
	}
	return b.String()
}

// join encodes a list as one field.
func join(list []string) string { return canon(list...) }

// inline encodes inline files by name and digest.
func inline(files []InlineFile) string {
	var fields []string
	for _, f := range files {
		sum := sha256.Sum256(f.Data)
		fields = append(fields, f.Name, hex.EncodeToString(sum[:]))
	}
	return canon(fields...)
}

// optional encodes a flag. A flag that is not given is an empty text.
func optional(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}
