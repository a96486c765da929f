//! Libraries that are no plugin of an execution provider, or one of another version: each is an error of one line that names it.
#![cfg(target_os = "linux")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::root;
use qwenguard::{Config, Error, Guard};

/// What is said when a bundle is opened with a plugin.
fn refusal(provider: &str, plugin: &Path) -> String {
    let toml = format!("[runtime]\nprovider = {provider:?}\n{provider}.library = {:?}", plugin.to_str().unwrap());
    let bundle = root().join("target/golden-gpu/grouped-bf16");
    assert!(bundle.join("guard.toml").is_file(), "{} is missing: run `make test-data`", bundle.display());
    let Err(error) = Guard::open_with(bundle, &Config::from_toml(&toml).unwrap()) else { panic!("it was opened") };
    let words = error.to_string();
    assert!(matches!(error, Error::Provider { .. }) && !words.contains('\n'), "{words}");
    assert!(words.starts_with(&format!("execution provider {provider}: ")), "{words}");
    words
}

/// A library of these sources.
fn library(folder: &Path, name: &str, source: &Path) -> Option<PathBuf> {
    if Command::new("cc").arg("--version").output().is_err() {
        let required = std::env::var("QWENGUARD_REQUIRE_TOOLCHAINS").is_ok_and(|value| value == "1");
        assert!(!required, "cc is missing");
        eprintln!("SKIPPED: cc is missing");
        return None;
    }
    let library = folder.join(name);
    let mut command = Command::new("cc");
    command.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(library)
}

#[test]
fn a_plugin_of_another_version_says_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let source = root().join("tests/webgpu/plugin.c");
    let Some(plugin) = library(folder.path(), "libplugin.so", &source) else { return };
    for provider in ["webgpu", "cuda"] {
        let words = refusal(provider, &plugin);
        assert!(words.contains("this plugin needs version 9999 of the interface"), "{words}");
        assert!(words.contains(plugin.file_name().unwrap().to_str().unwrap()), "{words}");
    }
    // It was not kept: what is wrong with another one is said as well.
    let words = refusal("webgpu", &folder.path().join("missing.so"));
    assert!(words.contains("runtime.webgpu.library") && words.contains("missing.so"), "{words}");
}

#[test]
fn what_is_no_plugin_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("empty.c");
    fs::write(&source, "int nothing;\n").unwrap();
    let Some(empty) = library(folder.path(), "libempty.so", &source) else { return };
    let words = refusal("webgpu", &empty);
    assert!(words.contains("libempty.so") && words.contains("CreateEpFactories"), "{words}");
    let text = folder.path().join("text.so");
    fs::write(&text, "not a library").unwrap();
    let words = refusal("webgpu", &text);
    assert!(words.contains("text.so"), "{words}");
    let words = refusal("webgpu", folder.path());
    assert!(words.contains("runtime.webgpu.library") && words.contains("onnxruntime_providers_webgpu"), "{words}");
    let words = refusal("cuda", folder.path());
    assert!(words.contains("runtime.cuda.library") && words.contains("onnxruntime_providers_cuda"), "{words}");
}
