package qwenguard

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Loads what its arguments name, then the ONNX Runtime of the package, and says which ones the process has.
const nativesProgram = `package main

// #include <dlfcn.h>
import "C"

import (
	"fmt"
	"os"
	"strings"

	natives "natives/linux"
)

func main() {
	load := natives.LoadRuntime
	for _, argument := range os.Args[1:] {
		if argument == "own" {
			load = natives.LoadOwnRuntime
		} else if C.dlopen(C.CString(argument), C.RTLD_NOW) == nil {
			panic(C.GoString(C.dlerror()))
		}
	}
	if err := load(); err != nil {
		fmt.Println(err)
	}
	seen := map[string]bool{}
	maps, _ := os.ReadFile("/proc/self/maps")
	for line := range strings.Lines(string(maps)) {
		// Of one that could not be loaded the loader may leave something that is not executable.
		words := strings.Fields(line)
		path := words[len(words)-1]
		if strings.Contains(path, "libonnxruntime") && words[1] == "r-xp" && !seen[path] {
			seen[path] = true
			fmt.Println(path)
		}
	}
}
`

// buildNatives makes the module of natives from its templates, as packaging/golang.py does, with an ONNX Runtime that has nothing in it. It
// gives the program.
func buildNatives(t *testing.T, folder string) string {
	t.Helper()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run := func(name string, arguments ...string) {
		t.Helper()
		command := exec.Command(name, arguments...)
		command.Dir = folder
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, output)
		}
	}
	texts := strings.NewReplacer("@PACKAGE@", "linux", "@CONSTRAINT@", "linux && "+runtime.GOARCH,
		"@RUNTIME@", "libonnxruntime.so", "@LIBRARIES@", "-ldl", "@DIGEST@", "0123456789abcdef")
	for _, template := range []string{"natives", "place", "system_unix", "loaded_linux"} {
		text := must(os.ReadFile(repository + "/packaging/go/" + template + ".go.in"))(t)
		// Not named after the system, as there.
		name, _, _ := strings.Cut(template, "_")
		write("linux/"+name+".go", texts.Replace(string(text)))
	}
	write("go.mod", "module natives\n\ngo 1.24\n")
	write("main.go", nativesProgram)
	write("empty.c", "int nothing;\n")
	run("cc", "-shared", "-fPIC", "empty.c", "-o", "linux/libonnxruntime.so")
	run("cc", "-c", "empty.c", "-o", "empty.o")
	run("ar", "rc", "linux/libqwenguard.a", "empty.o")
	run("go", "vet", "./...")
	run("go", "build", "-o", "program", ".")
	return filepath.Join(folder, "program")
}

// With packages the natives' module loads ONNX Runtime.
func TestNativesLoadOneRuntime(t *testing.T) {
	folder := t.TempDir()
	program := buildNatives(t, folder)
	cache, temporary := filepath.Join(folder, "cache"), filepath.Join(folder, "temporary")
	for _, made := range []string{cache, temporary} {
		if err := os.Mkdir(made, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	environment := append(slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "ORT_DYLIB_PATH=")
	}), "XDG_CACHE_HOME="+cache, "TMPDIR="+temporary)
	says := func(t *testing.T, variable string, command ...string) []string {
		t.Helper()
		started := exec.Command(command[0], command[1:]...)
		started.Env = append(environment, variable)
		return strings.Fields(string(must(started.Output())(t)))
	}
	// The place of the library within a folder for caches.
	const name = "0123456789abcdef/libonnxruntime.so"
	cached := filepath.Join(cache, "qwenguard", name)
	content := must(os.ReadFile(filepath.Join(folder, "linux/libonnxruntime.so")))(t)
	loaded := filepath.Join(folder, "libonnxruntime.so.1.2.3")
	other := filepath.Join(folder, "libonnxruntime_providers_shared.so")
	for _, path := range []string{loaded, other} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is := func(t *testing.T, found []string, wanted ...string) {
		t.Helper()
		slices.Sort(found)
		slices.Sort(wanted)
		if !slices.Equal(found, wanted) {
			t.Errorf("%v, not %v", found, wanted)
		}
	}

	is(t, says(t, "ORT_DYLIB_PATH=/somewhere", program))
	is(t, says(t, "", program, loaded), loaded)
	if _, err := os.Stat(cached); err == nil {
		t.Error("it was put into the cache without need")
	}
	is(t, says(t, "", program), cached)
	is(t, says(t, "", program), cached)
	is(t, says(t, "", program, other), cached, other)
	// The loaded one is of no use.
	is(t, says(t, "", program, loaded, "own"), cached, loaded)
	if err := os.WriteFile(cached, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	is(t, says(t, "", program), cached)

	// Without a folder for caches, and with one that is none.
	below := filepath.Join(temporary, "qwenguard-*", name)
	for _, nowhere := range []string{"", "/proc"} {
		found := says(t, "XDG_CACHE_HOME="+nowhere, "env", "-u", "HOME", program)
		if len(found) != 1 || !must(filepath.Match(below, found[0]))(t) {
			t.Error(nowhere, found)
		}
	}

	t.Run("noexec", func(t *testing.T) {
		if err := exec.Command("unshare", "-rm", "mount", "-t", "tmpfs", "-o", "noexec", "none", cache).Run(); err != nil {
			t.Skip("SKIPPED: no file system can be mounted here:", err)
		}
		mounted := func(folders string) []string {
			mount := `for folder in ` + folders + `; do mount -t tmpfs -o noexec none "$folder"; done; exec "$@"`
			return says(t, "", "unshare", "-rm", "sh", "-euc", mount, "sh", program)
		}
		// Root of that namespace has another folder's name, unless root started it.
		found := mounted(`"$XDG_CACHE_HOME"`)
		if len(found) != 1 || !must(filepath.Match(below, found[0]))(t) {
			t.Error(found)
		}
		said := strings.Join(mounted(`"$XDG_CACHE_HOME" "$TMPDIR"`), " ")
		for _, part := range []string{"cannot be loaded from a cache folder", "ORT_DYLIB_PATH", cache, ", then ", temporary} {
			if !strings.Contains(said, part) {
				t.Error(said)
			}
		}
	})
}
