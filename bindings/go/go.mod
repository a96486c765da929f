module github.com/libqwenguard/libqwenguard/bindings/go

go 1.24
