package qwenguard

import (
	"errors"
	"testing"
)

// useRuntimes sets what released modules set, for one test.
func useRuntimes(t *testing.T, bundled, own func() error) {
	bundledRuntime, ownRuntime = bundled, own
	t.Cleanup(func() { bundledRuntime, ownRuntime = nil, nil })
}

// What the program has loaded is of no use: the module's own is loaded, and the call made again.
func TestAnUnusableRuntimeIsReplaced(t *testing.T) {
	t.Setenv("ORT_DYLIB_PATH", "")
	var asked, loaded, calls int
	useRuntimes(t, func() error { asked++; return nil }, func() error { loaded++; return nil })
	failure := func(status Status) error { return &Error{Status: status, Message: "of no use"} }
	first := func(status Status) func(*rawOptions) (int, error) {
		return func(*rawOptions) (int, error) {
			if calls++; calls > 1 {
				return 7, nil
			}
			return 0, failure(status)
		}
	}
	for _, status := range []Status{ErrRuntimeNotFound, ErrRuntimeUnusable} {
		asked, loaded, calls = 0, 0, 0
		if result, err := withOptions(nil, first(status)); result != 7 || err != nil || asked != 1 || loaded != 1 || calls != 2 {
			t.Error(status, result, err, asked, loaded, calls)
		}
	}

	once := func(options *Options, status Status) {
		t.Helper()
		loaded, calls = 0, 0
		_, err := withOptions(options, func(*rawOptions) (int, error) { calls++; return 0, failure(status) })
		if !errors.Is(err, status) || loaded != 0 || calls != 1 {
			t.Error(err, loaded, calls)
		}
	}
	once(nil, ErrConfig)
	once(&Options{RuntimeLibrary: "/nowhere"}, ErrRuntimeNotFound)
	t.Setenv("ORT_DYLIB_PATH", "/nowhere")
	once(nil, ErrRuntimeNotFound)

	t.Setenv("ORT_DYLIB_PATH", "")
	calls = 0
	useRuntimes(t, nil, func() error { return errors.New("no cache folder") })
	_, err := withOptions(nil, first(ErrRuntimeNotFound))
	if !errors.Is(err, ErrRuntimeNotFound) || calls != 1 {
		t.Error(err, calls)
	}
	useRuntimes(t, func() error { return errors.New("no cache folder") }, nil)
	_, err = withOptions(nil, first(ErrRuntimeNotFound))
	fails(t, err, ErrRuntimeUnusable, "no cache folder")
}
