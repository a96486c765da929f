package qwenguard

import (
	"errors"
	"os"
)

// Released modules set these: see docs/packages.md. The first loads the ONNX Runtime that came with the module unless the program has loaded
// one, the second in any case.
var bundledRuntime, ownRuntime func() error

// loadBundledRuntime comes before the library looks for ONNX Runtime, unless the options name one.
func loadBundledRuntime(options *Options) error {
	if bundledRuntime == nil || namesRuntime(options) {
		return nil
	}
	if err := bundledRuntime(); err != nil {
		return &Error{Status: ErrRuntimeUnusable, Message: err.Error()}
	}
	return nil
}

// loadOwnRuntime comes after a failure: what the program has loaded may be of no use, such as too old. It tells whether that is worth
// another try. Who names a library gets that one or its error.
func loadOwnRuntime(options *Options, failure error) bool {
	if ownRuntime == nil || namesRuntime(options) || os.Getenv("ORT_DYLIB_PATH") != "" {
		return false
	}
	missing := errors.Is(failure, ErrRuntimeNotFound) || errors.Is(failure, ErrRuntimeUnusable)
	return missing && ownRuntime() == nil
}

func namesRuntime(options *Options) bool { return options != nil && options.RuntimeLibrary != "" }
