package qwenguard

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// The program on the page, in a module of its own, as a newcomer would have it.
func TestReadme(t *testing.T) {
	page := must(os.ReadFile("README.md"))(t)
	program := regexp.MustCompile("(?s)```go\n(package main.*?)```").FindSubmatch(page)
	if program == nil {
		t.Fatal("there is no program")
	}
	const module = "github.com/libqwenguard/libqwenguard/bindings/go"
	here := must(filepath.Abs("."))(t)
	folder := t.TempDir()
	for name, text := range map[string]string{
		"main.go": string(program[1]),
		"go.mod": "module newcomer\n\ngo 1.24\n\nrequire " + module + " v0.0.0\n\n" +
			"replace " + module + " => " + here + "\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command("go", "run", ".")
	command.Dir = folder
	output, err := command.CombinedOutput()
	wanted := regexp.MustCompile(`^(may be shown: \d+ bytes\n){2,3}cut: Unsafe, answer.strict: 2 consecutive\n$`)
	if err != nil || !wanted.Match(output) {
		t.Fatalf("%v\n%s", err, output)
	}
}
