package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
)

// object is a JSON object whose fields are taken one by one, by exactly their names: package json alone would take "Messages",
// or a letter that only folds to one of these, for "messages", and the last of two fields of a name. A field that is null is
// as one that is not there. The first error stays.
type object struct {
	path   string
	fields map[string]json.RawMessage
	err    error
}

func parseObject(path string, data []byte) *object {
	o := &object{path: path, fields: make(map[string]json.RawMessage)}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		o.fail("", "not an object")
		return o
	}
	for decoder.More() {
		var value json.RawMessage
		key, err := decoder.Token()
		name, _ := key.(string)
		if err == nil {
			err = decoder.Decode(&value)
		}
		if err != nil {
			o.fail(name, "%v", err)
			return o
		}
		if _, twice := o.fields[name]; twice {
			o.fail(name, "there twice")
		}
		o.fields[name] = value
	}
	if _, err := decoder.Token(); err != nil {
		o.fail("", "%v", err)
	} else if _, err := decoder.Token(); err != io.EOF {
		o.fail("", "there is more after it")
	}
	for name, value := range o.fields {
		if string(value) == "null" {
			delete(o.fields, name)
		}
	}
	return o
}

func (o *object) fail(name, format string, values ...any) {
	if o.err != nil {
		return
	}
	place := o.path
	if name != "" && place != "" {
		place += "."
	}
	if place+name == "" {
		place = "JSON"
	}
	o.err = fmt.Errorf("%s%s: %s", place, name, fmt.Sprintf(format, values...))
}

// take gives a field, once.
func (o *object) take(name string) (json.RawMessage, bool) {
	value, ok := o.fields[name]
	delete(o.fields, name)
	return value, ok
}

// into takes a field of the kind of JSON that target has. It leaves target as it is if the field is not there.
func (o *object) into(name string, target any) bool {
	value, ok := o.take(name)
	if ok && json.Unmarshal(value, target) != nil {
		o.fail(name, "%.40s is not what it should be", value)
	}
	return ok
}

func (o *object) text(name string) (text string) {
	o.into(name, &text)
	return text
}

var identifier = regexp.MustCompile(`^[A-Za-z0-9_.:/@+-]{0,128}$`)

// identifier takes a name that cannot be read as text: nobody judges it.
func (o *object) identifier(name string) string {
	text := o.text(name)
	if !identifier.MatchString(text) {
		o.fail(name, "%.40q has other characters than names have, or too many", text)
	}
	return text
}

// list takes an array, whose values have places.
func (o *object) list(name string) (values []json.RawMessage) {
	o.into(name, &values)
	return values
}

func (o *object) place(name string, index int) string {
	if o.path != "" {
		name = o.path + "." + name
	}
	return fmt.Sprintf("%s[%d]", name, index)
}

// end says what was wrong, be it that there is a field which nobody took.
func (o *object) end() error {
	for name := range o.fields {
		o.fail(fmt.Sprintf("%.40q", name), "this field is not moderated here")
	}
	return o.err
}
