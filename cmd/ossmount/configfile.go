package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/pflag"
)

// maxConfig is more than any file of settings needs.
const maxConfig = 1 << 20

// fromFile returns the settings in a file; its error holds all that is wrong.
func fromFile(path string, known map[string]*pflag.Flag) ([]item, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("--config: %w", err)
	case len(text) > maxConfig:
		return nil, fmt.Errorf("--config: %s is larger than %d bytes: it is no file of settings", path, maxConfig)
	}
	return parseConfig(path, text, known)
}

// parseConfig reads a mapping of names to values and lists of values.
func parseConfig(path string, text []byte, known map[string]*pflag.Flag) (items []item, err error) {
	file, err := parser.ParseBytes(text, 0)
	var syntax *yaml.SyntaxError
	switch {
	case errors.As(err, &syntax) && syntax.Token != nil:
		return nil, fmt.Errorf("%s:%d: %s", path, syntax.Token.Position.Line, syntax.Message)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var errs []error
	seen := false
	for _, d := range file.Docs {
		if d.Body == nil || d.Body.Type() == ast.CommentType || d.Body.Type() == ast.NullType {
			continue
		}
		pairs, ok := d.Body.(ast.MapNode)
		switch where := at(path, d.Body); {
		case seen:
			errs = append(errs, fmt.Errorf("%s: a second document: a file of settings has one", where))
			continue
		case !ok:
			errs = append(errs, fmt.Errorf("%s: it is no list of settings, each on a line as NAME: VALUE", where))
			continue
		}
		seen = true
		for pair := pairs.MapRange(); pair.Next(); {
			it, err := readPair(path, pair, known)
			errs = append(errs, err)
			if err == nil {
				items = append(items, it)
			}
		}
	}
	return items, errors.Join(errs...)
}

func readPair(path string, pair *ast.MapNodeIter, known map[string]*pflag.Flag) (it item, err error) {
	it.where = at(path, pair.Key())
	if it.name, err = scalar(pair.Key()); err != nil {
		it.name = pair.Key().String()
	}
	f := known[it.name]
	if f == nil || slices.Contains(notInAFile, it.name) {
		return it, unknownSetting(it.where, it.name, known)
	}
	_, isList := f.Value.(pflag.SliceValue)
	values, written := pair.Value().(*ast.SequenceNode)
	switch {
	case isList != written && isList:
		return it, fmt.Errorf("%s: %s is a list: write [a, b], or a line that begins with - for each", it.where, it.name)
	case isList != written:
		return it, fmt.Errorf("%s: %s takes one value, not a list", it.where, it.name)
	case isList:
		it.list = []string{}
		for _, v := range values.Values {
			text, err := scalar(v)
			if err != nil {
				return it, fmt.Errorf("%s: %s: %w", it.where, it.name, err)
			}
			it.list = append(it.list, text)
		}
		return it, nil
	}
	if it.text, err = scalar(pair.Value()); err != nil {
		return it, fmt.Errorf("%s: %s: %w", it.where, it.name, err)
	}
	return it, nil
}

// scalar is the text of a plain value as it is written: 0644 stays what it is.
func scalar(n ast.Node) (string, error) {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return "", errors.New("it has no value")
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, nil
	}
	return "", errors.New("it takes a plain value: no mapping, anchor, alias or tag")
}

// at is where a node stands.
func at(path string, n ast.Node) string {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return fmt.Sprintf("%s:%d", path, t.Position.Line)
	}
	return path
}
