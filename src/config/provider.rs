//! Execution providers: their names, and the settings of each.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What computes a model. docs/providers.md says what each needs, and how far it is proved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Provider {
    /// The processor, with this library's own operators.
    #[default]
    Cpu,
    /// GPUs of NVIDIA.
    Cuda,
    /// GPUs of any maker, through the WebGPU plugin of ONNX Runtime.
    WebGpu,
    /// GPUs under Windows.
    DirectMl,
    /// Apple's processors, GPUs and neural engines.
    CoreMl,
}

impl Provider {
    /// All of them.
    pub const ALL: [Provider; 5] =
        [Provider::Cpu, Provider::Cuda, Provider::WebGpu, Provider::DirectMl, Provider::CoreMl];

    /// The name that the configuration has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Provider::Cpu => "cpu",
            Provider::Cuda => "cuda",
            Provider::WebGpu => "webgpu",
            Provider::DirectMl => "directml",
            Provider::CoreMl => "coreml",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Settings of [`Provider::Cuda`]. How much device memory the KV cache takes is [`CacheConfig::mib`](super::CacheConfig::mib).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CudaConfig {
    /// The GPU, by its place among those that [`providers`](crate::providers) lists. Default 0.
    pub device: usize,
    /// The library with the provider, or the folder it is in. Default: the folder of the ONNX Runtime library, where ONNX
    /// Runtime's own GPU build has it. A process loads one.
    pub library: Option<PathBuf>,
    /// Whether steps are recorded as CUDA graphs and played again, which spares most of a small step's time: each step is
    /// padded to the next of few sizes, and the first of a size is slow. docs/providers.md says more. Default false.
    pub graphs: bool,
}

/// Settings of [`Provider::WebGpu`].
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebGpuConfig {
    /// The GPU, by its place among those that [`providers`](crate::providers) lists. Default 0.
    pub device: usize,
    /// The plugin: its library, or the folder it is in. Default: the folder of the ONNX Runtime library. A process loads
    /// one: another path fails with [`Error::Provider`](crate::Error::Provider).
    pub library: Option<PathBuf>,
}

/// Settings of [`Provider::DirectMl`].
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DirectMlConfig {
    /// The adapter, counted from 0 as DXGI counts them. Default 0.
    pub device: usize,
}

/// Settings of [`Provider::CoreMl`].
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoreMlConfig {
    /// What may compute. Default [`ComputeUnits::All`].
    pub compute_units: ComputeUnits,
    /// Where compiled models are kept, so that a bundle is compiled once; the folder is made if it is not there. Default:
    /// nowhere, each opening compiles.
    pub cache: Option<PathBuf>,
}

/// What CoreML may compute with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComputeUnits {
    /// Processor, GPU and neural engine.
    #[default]
    All,
    /// Processor and neural engine.
    CpuAndNeuralEngine,
    /// Processor and GPU.
    CpuAndGpu,
    /// The processor alone.
    Cpu,
}
