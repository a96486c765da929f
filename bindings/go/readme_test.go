package qwenguard

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/libqwenguard/libqwenguard/bindings/go"

// blocks are those of a language on the page.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	page := must(os.ReadFile("README.md"))(t)
	var found []string
	for _, block := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(page, -1) {
		found = append(found, string(block[1]))
	}
	return found
}

// newcomer runs commands in a folder that is empty but for some files, in a shell where nothing is set for this package.
func newcomer(t *testing.T, files map[string]string, commands string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lib := must(exec.Command("pkg-config", "--variable=libdir", "qwenguard").Output())(t)
	command := exec.Command("sh", "-euc", commands)
	command.Dir = folder
	command.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return regexp.MustCompile("^(PKG_CONFIG_PATH|LD_LIBRARY_PATH|CGO_|GOFLAGS|GOEXPERIMENT)").MatchString(variable)
	})
	command.Env = append(command.Env, "CHECKOUT="+must(filepath.Abs(repository))(t),
		"DIST="+filepath.Dir(strings.TrimSpace(string(lib))))
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return string(output)
}

// What the page says to do, from an empty folder, and the program that it has.
func TestReadme(t *testing.T) {
	commands := blocks(t, "sh")
	program := blocks(t, "go")[0]
	if !strings.Contains(commands[0], "export CHECKOUT") || !strings.HasPrefix(program, "package main") {
		t.Fatal("the page begins otherwise")
	}
	output := newcomer(t, map[string]string{"main.go": program}, commands[1]+commands[2])
	wanted := regexp.MustCompile(`(?m)^(may be shown: \d+ bytes\n){2,3}cut: Unsafe, answer.strict: 2 consecutive\n$`)
	if !wanted.MatchString(output) {
		t.Fatal(output)
	}
}

// The other pieces of code on the page, with the collector, make a program.
func TestReadmePieces(t *testing.T) {
	program := `package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"

	qwenguard "` + modulePath + `"
	"` + modulePath + `/qwenguardprometheus"
	"github.com/prometheus/client_golang/prometheus"
)

func main() {}
`
	uses := regexp.MustCompile(`(?m)^(\w+), err :?= `)
	pieces := blocks(t, "go")[1:]
	if len(pieces) != 4 {
		t.Fatalf("%d pieces", len(pieces))
	}
	for index, piece := range pieces {
		program += fmt.Sprintf(`
func piece%d(ctx context.Context, guard *qwenguard.Guard, stream *qwenguard.Stream, response io.Writer, answer io.Reader,
	piece string, registry *prometheus.Registry) error {
	%s
`, index, piece)
		for _, used := range uses.FindAllStringSubmatch(piece, -1) {
			program += "\t_ = " + used[1] + "\n"
		}
		program += "\treturn nil\n}\n"
	}
	program = strings.ReplaceAll(program, "\t_ = _\n", "")
	newcomer(t, map[string]string{"main.go": program}, blocks(t, "sh")[1]+
		`go mod edit -replace `+modulePath+`/qwenguardprometheus="$CHECKOUT/bindings/go/qwenguardprometheus"
go mod tidy
go vet .
go run .`)
}
