//! `qwenguard inspect`: what a bundle is.

use std::io::Write;

use qwenguard::{Guard, Info, Labels};

use crate::Failure;

pub(crate) fn run(guard: &Guard) -> Result<(), Failure> {
    let Info {
        bundle,
        source,
        source_sha256,
        exporter,
        architecture,
        weights,
        cache,
        layers,
        hidden_size,
        heads,
        kv_heads,
        head_dim,
        vocab_size,
        context,
        cache_bytes_per_token,
        runtime,
        provider,
        ..
    } = guard.info();
    let mut out = std::io::stdout().lock();
    writeln!(out, "bundle      {bundle}")?;
    writeln!(out, "source      {source}")?;
    for (file, digest) in source_sha256 {
        writeln!(out, "            {file} sha256 {digest}")?;
    }
    writeln!(out, "exporter    {exporter}")?;
    writeln!(out, "model       {architecture}, {layers} layers, hidden size {hidden_size}, vocabulary {vocab_size}")?;
    writeln!(out, "heads       {heads} query, {kv_heads} key and value, {head_dim} values each")?;
    writeln!(out, "context     {context} tokens")?;
    writeln!(out, "weights     {weights}")?;
    writeln!(out, "cache       {cache}, {cache_bytes_per_token} bytes a token")?;
    writeln!(out, "prompts     {}", labels(guard.query_labels()))?;
    writeln!(out, "answers     {}", labels(guard.response_labels()))?;
    writeln!(out, "provider    {provider}")?;
    writeln!(out, "runtime     {runtime}")?;
    Ok(())
}

fn labels(labels: &Labels) -> String {
    let risks: Vec<String> = labels.risks().iter().map(ToString::to_string).collect();
    format!("{}; {}", risks.join(", "), labels.categories().join(", "))
}
