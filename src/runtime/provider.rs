//! How a session gets an execution provider, and what of them this machine has.

use std::{
    env::consts::{DLL_PREFIX, DLL_SUFFIX},
    ffi::{CStr, CString},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ort::{
    AsPointer,
    device::Device as EpDevice,
    ep::{CoreML, DirectML, ExecutionProvider, ExecutionProviderDispatch, coreml},
    memory::DeviceType,
    ortsys,
    session::{Session, builder::SessionBuilder},
    sys::OrtHardwareDevice,
    value::Tensor,
};

use super::{Assigned, Runtime, SessionError, Turn, Weights, kept, one_session_at_a_time, reason};
use crate::{
    Error, Result,
    config::{ComputeUnits, Provider, RuntimeConfig},
    error::one_line,
};

/// A model of one addition: what a provider cannot make a session of, it cannot be had for anything.
const PROBE: &[u8] = include_bytes!("probe.onnx");

/// The numbers that it adds.
const PROBE_DIMS: [usize; 4] = [1, 1, 1, 16];

/// Plugins that this process has registered.
static PLUGINS: Mutex<Vec<Plugin>> = Mutex::new(Vec::new());

struct Plugin {
    provider: Provider,
    library: PathBuf,
    /// What this and every model on it hold.
    users: Arc<()>,
    state: PluginState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PluginState {
    Fine,
    /// Something failed on it. It may keep buffers that never were: it is loaded anew as soon as nobody uses it.
    Doubtful,
    /// It keeps a device that was lost, for all who come later.
    Lost,
}

/// Held as long as a model has sessions on a plugin's device.
pub(crate) struct PluginUser(#[expect(dead_code, reason = "it is counted")] Arc<()>);

fn plugins() -> MutexGuard<'static, Vec<Plugin>> {
    PLUGINS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a plugin is registered as.
fn registration(provider: Provider) -> String {
    format!("qwenguard.{provider}")
}

/// The file with a provider's plugin. ONNX Runtime's own build for CUDA has its provider in one too.
fn plugin_file(provider: Provider) -> String {
    let name = if provider == Provider::WebGpu { "webgpu" } else { "cuda" };
    format!("{DLL_PREFIX}onnxruntime_providers_{name}{DLL_SUFFIX}")
}

/// What the WebGPU plugin looks at in the environment: whether an adapter that computes on the processor will do.
const SOFTWARE_ADAPTER: &str = "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER";

/// A device that a provider computes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// Its maker and what the system calls it, as far as that is known.
    pub(crate) name: String,
    /// `cpu`, `gpu` or `npu`.
    pub(crate) kind: &'static str,
}

impl Runtime {
    /// Whether there may be this provider, without making a session: the reason if there is none.
    pub(crate) fn look_for(&self, config: &RuntimeConfig) -> Result<Vec<Device>> {
        let found = match config.provider {
            Provider::Cpu => Ok(self.own_devices("CPUExecutionProvider").take(1).collect()),
            Provider::Cuda | Provider::WebGpu => {
                self.plugin_devices(config).map(|devices| devices.iter().map(describe).collect())
            }
            Provider::DirectMl if !cfg!(windows) => Err("there is none but on Windows".to_owned()),
            Provider::DirectMl => self.built_in::<DirectML>("onnxruntime-directml"),
            Provider::CoreMl if !cfg!(target_vendor = "apple") => {
                Err("there is none but on the systems of Apple".to_owned())
            }
            Provider::CoreMl => self.built_in::<CoreML>("onnxruntime"),
        };
        found.map_err(|reason| unavailable(config.provider, &reason))
    }

    /// Whether there is this provider: makes a session of next to nothing on it.
    pub(crate) fn probe(&self, config: &RuntimeConfig) -> Result<Vec<Device>> {
        let _turn = Turn::of(config);
        let devices = self.look_for(config)?;
        let _session = one_session_at_a_time();
        self.probe_session(config).map(|_| devices)
    }

    fn probe_session(&self, config: &RuntimeConfig) -> Result<Session> {
        let failed = |error: ort::Error| unavailable(config.provider, error.message());
        // It is not to be recorded.
        let mut config = config.clone();
        config.cuda.graphs = false;
        let config = &config;
        let builder = self.session_builder(1).map_err(failed)?;
        self.with_provider(builder, config, "probe")?.commit_from_memory(PROBE).map_err(failed)
    }

    /// Whether the provider's device still computes. Who uses it has its turn.
    pub(crate) fn answers(&self, config: &RuntimeConfig) -> Result<()> {
        let _session = one_session_at_a_time();
        let failed = |error: ort::Error| unavailable(config.provider, error.message());
        let mut session = self.probe_session(config)?;
        let numbers = vec![1f32; PROBE_DIMS.iter().product()];
        let input = Tensor::from_array((PROBE_DIMS, numbers)).map_err(failed)?;
        let outputs = session.run(ort::inputs! { "x" => input }).map_err(failed)?;
        let (_, found) = outputs["y"].try_extract_tensor::<f32>().map_err(failed)?;
        match found.iter().all(|number| *number == 2.0) {
            true => Ok(()),
            false => Err(unavailable(config.provider, "it computes wrong")),
        }
    }

    /// Counts a model on a plugin's device until it is let go of.
    pub(crate) fn plugin_user(&self, provider: Provider) -> Option<PluginUser> {
        let plugins = plugins();
        plugins.iter().find(|plugin| plugin.provider == provider).map(|plugin| PluginUser(Arc::clone(&plugin.users)))
    }

    /// Notes that something failed on a provider's device, or that the device was lost.
    pub(crate) fn failed_on_device(&self, provider: Provider, is_lost: bool) {
        let state = if is_lost { PluginState::Lost } else { PluginState::Doubtful };
        let mut plugins = plugins();
        plugins.iter_mut().filter(|own| own.provider == provider).for_each(|own| own.state = own.state.max(state));
    }

    /// Lets go of a plugin on which something failed, so that it is loaded anew. Who uses it has its turn.
    pub(crate) fn renew(&self, provider: Provider) -> Result<()> {
        let mut plugins = plugins();
        let failed = |plugin: &Plugin| plugin.provider == provider && plugin.state != PluginState::Fine;
        let Some(index) = plugins.iter().position(failed) else { return Ok(()) };
        if Arc::strong_count(&plugins[index].users) > 1 {
            if plugins[index].state != PluginState::Lost {
                return Ok(());
            }
            let reason =
                "its device was lost, and another guard still has it: drop all guards on it before one is opened";
            return Err(unavailable(provider, reason));
        }
        let name = CString::new(registration(provider)).map_err(|error| unavailable(provider, &error.to_string()))?;
        let environment = self.environment.ptr().cast_mut();
        let unregister = || -> ort::Result<()> {
            // SAFETY: both pointers are valid, and nobody has a session on the plugin's devices.
            ortsys![unsafe UnregisterExecutionProviderLibrary(environment, name.as_ptr())?];
            Ok(())
        };
        unregister().map_err(|error| unavailable(provider, error.message()))?;
        plugins.remove(index);
        tracing::info!(%provider, "let go of the plugin of an execution provider, after something failed on it");
        Ok(())
    }

    /// Gives a session that is to be made the configuration's provider.
    pub(super) fn with_provider(
        &self,
        builder: SessionBuilder,
        config: &RuntimeConfig,
        digest: &str,
    ) -> Result<SessionBuilder> {
        let provider = config.provider;
        if provider == Provider::Cpu {
            return Ok(builder);
        }
        let failed = |error: ort::Error<SessionBuilder>| unavailable(provider, error.message());
        let builder = builder.with_config_entry("session.disable_cpu_ep_fallback", "1").map_err(failed)?;
        let by_name = match provider {
            Provider::Cpu => return Ok(builder),
            Provider::Cuda | Provider::WebGpu => return self.with_plugin(builder, config),
            Provider::DirectMl => DirectML::default().with_device_id(config.directml.device as i32).build(),
            Provider::CoreMl => core_ml(config, digest)?,
        };
        builder.with_execution_providers([by_name.error_on_failure()]).map_err(failed)
    }

    /// With the chosen device of a plugin.
    fn with_plugin(&self, builder: SessionBuilder, config: &RuntimeConfig) -> Result<SessionBuilder> {
        let provider = config.provider;
        let devices = self.plugin_devices(config).map_err(|reason| unavailable(provider, &reason))?;
        let (index, count) = (chosen(config), devices.len());
        let device = devices.into_iter().nth(index).ok_or_else(|| {
            unavailable(provider, &format!("runtime.{provider}.device is {index}, there are {count} devices"))
        })?;
        let option = |name: &str| format!("{}.{name}", device.ep().unwrap_or_default());
        let options = match config.records_steps() {
            true => vec![(option("enable_cuda_graph"), "1".to_owned())],
            false => Vec::new(),
        };
        let made = builder.with_devices([device], Some(&options));
        made.map_err(|error| unavailable(provider, error.message()))
    }

    /// The devices of a provider's plugin, which is registered if it is not yet. There is at least one.
    fn plugin_devices(&self, config: &RuntimeConfig) -> Result<Vec<EpDevice<'_>>, String> {
        let provider = config.provider;
        self.register(provider, &self.plugin(config)?)?;
        // By the provider's name: one that computes in software calls itself a processor.
        let is_its = |device: &EpDevice| device.ep().is_ok_and(|name| is_name_of(provider, name));
        let devices: Vec<_> = self.environment.devices().filter(is_its).collect();
        if !devices.is_empty() {
            return Ok(devices);
        }
        Err(match provider {
            Provider::WebGpu => format!(
                "its plugin finds no GPU; {SOFTWARE_ADAPTER}=1 in the environment lets it take any adapter that Vulkan has, \
                 also one that computes on the processor"
            ),
            _ => "its plugin finds no GPU".to_owned(),
        })
    }

    /// The library of the provider's plugin.
    fn plugin(&self, config: &RuntimeConfig) -> Result<PathBuf, String> {
        let provider = config.provider;
        let (setting, named) = match provider {
            Provider::WebGpu => ("runtime.webgpu.library", &config.webgpu.library),
            _ => ("runtime.cuda.library", &config.cuda.library),
        };
        let folder = || self.library.parent().unwrap_or(Path::new("."));
        let place = named.as_deref().unwrap_or_else(folder);
        let file = if place.is_dir() { place.join(plugin_file(provider)) } else { place.to_owned() };
        dunce::canonicalize(&file).map_err(|error| match named {
            Some(_) => format!("{setting}: {}: {error}", file.display()),
            None if provider == Provider::Cuda => {
                let library = self.library.display();
                format!("ONNX Runtime at {library} was built without it; the Python package onnxruntime-gpu has it")
            }
            None => format!("there is no {} in {}: set {setting}", plugin_file(provider), folder().display()),
        })
    }

    /// Registers a plugin with the process' environment, once.
    fn register(&self, provider: Provider, library: &Path) -> Result<(), String> {
        let mut plugins = plugins();
        if let Some(Plugin { library: known, .. }) = plugins.iter().find(|plugin| plugin.provider == provider) {
            return match known == library {
                true => Ok(()),
                false => Err(format!("its plugin {} is loaded already, a process can hold one", known.display())),
            };
        }
        let words =
            |error: ort::Error| format!("its plugin {}: {}", library.display(), one_line(plain(error.message())));
        self.environment.register_ep_library(registration(provider), library).map_err(words)?;
        tracing::info!(%provider, library = %library.display(), "registered the plugin of an execution provider");
        plugins.push(Plugin { provider, library: library.to_owned(), users: Arc::new(()), state: PluginState::Fine });
        Ok(())
    }

    /// The devices of a provider that the runtime's library was built with, as far as it tells them.
    fn built_in<E: ExecutionProvider>(&self, package: &str) -> Result<Vec<Device>, String> {
        if !E::is_available().unwrap_or(false) {
            let library = self.library.display();
            return Err(format!("ONNX Runtime at {library} was built without it; the Python package {package} has it"));
        }
        Ok(self.own_devices(E::NAME).collect())
    }

    /// What the runtime knows that a provider of this name computes on.
    fn own_devices(&self, provider: &str) -> impl Iterator<Item = Device> {
        let devices = self.environment.devices();
        devices.filter(move |device| device.ep().is_ok_and(|name| name == provider)).map(|device| describe(&device))
    }

    /// A graph as a file, with its weights beside it, for a provider that keeps what it makes of a graph by its path.
    pub(super) fn kept(
        &self,
        config: &RuntimeConfig,
        digest: &str,
        graph: &[u8],
        weights: &Weights,
    ) -> Result<Option<PathBuf>> {
        let Some(folder) = cache(config, digest) else { return Ok(None) };
        kept::lay_out(&folder, graph, weights).map(Some).map_err(|error| cache_error(&folder, &error))
    }

    /// Whose fault it is that there is no session: the provider's if it cannot make any.
    pub(super) fn blame(&self, config: &RuntimeConfig, error: ort::Error) -> SessionError {
        match config.provider == Provider::Cpu {
            true => SessionError::Graph(reason(error)),
            false => match self.probe_session(config) {
                Ok(_) => SessionError::Graph(reason(error)),
                Err(error) => SessionError::Provider(error),
            },
        }
    }

    /// Fails if the provider that was asked for has not all of a session.
    pub(super) fn check_placement(&self, config: &RuntimeConfig, assigned: &[Assigned]) -> Result<()> {
        check_assigned(config.provider, assigned)
    }
}

/// Every node must be on the provider that was asked for.
fn check_assigned(provider: Provider, assigned: &[Assigned]) -> Result<()> {
    if provider == Provider::Cpu {
        return Ok(());
    }
    let elsewhere: Vec<&Assigned> = assigned.iter().filter(|own| !is_name_of(provider, &own.provider)).collect();
    if assigned.is_empty() {
        return Err(unavailable(
            provider,
            "ONNX Runtime is too old to tell what runs where: 1.24.0 or newer is needed",
        ));
    }
    let Some(first) = elsewhere.first() else { return Ok(()) };
    let count: usize = elsewhere.iter().map(|own| own.operators.len()).sum();
    let operator = first.operators.first().map_or("", String::as_str);
    let reason = format!("{count} nodes of the graph would run on {}, the first is {operator}", first.provider);
    Err(unavailable(provider, &reason))
}

/// Whether ONNX Runtime calls a provider so.
fn is_name_of(provider: Provider, name: &str) -> bool {
    match provider {
        Provider::Cpu => name == "CPUExecutionProvider",
        // Plugins have names of their own.
        Provider::Cuda => name.starts_with("CUDA") || name.starts_with("Cuda"),
        Provider::WebGpu => name == "WebGpuExecutionProvider",
        Provider::DirectMl => name == DirectML::NAME,
        Provider::CoreMl => name == CoreML::NAME,
    }
}

fn chosen(config: &RuntimeConfig) -> usize {
    match config.provider {
        Provider::Cuda => config.cuda.device,
        Provider::WebGpu => config.webgpu.device,
        _ => config.directml.device,
    }
}

/// Where a provider keeps what it makes of a graph, if it is to.
fn cache(config: &RuntimeConfig, digest: &str) -> Option<PathBuf> {
    let cache = config.coreml.cache.as_ref().filter(|_| config.provider == Provider::CoreMl)?;
    // The provider knows a model by its path alone: weights that differ would get what was made of others.
    Some(cache.join(digest))
}

fn core_ml(config: &RuntimeConfig, digest: &str) -> Result<ExecutionProviderDispatch> {
    let units = match config.coreml.compute_units {
        ComputeUnits::All => coreml::ComputeUnits::All,
        ComputeUnits::CpuAndNeuralEngine => coreml::ComputeUnits::CPUAndNeuralEngine,
        ComputeUnits::CpuAndGpu => coreml::ComputeUnits::CPUAndGPU,
        ComputeUnits::Cpu => coreml::ComputeUnits::CPUOnly,
    };
    let provider = CoreML::default()
        .with_compute_units(units)
        .with_model_format(coreml::ModelFormat::MLProgram)
        .with_static_input_shapes(true);
    let Some(folder) = cache(config, digest) else { return Ok(provider.build()) };
    fs::create_dir_all(&folder).map_err(|error| cache_error(&folder, &error))?;
    Ok(provider.with_model_cache_dir(folder.display()).build())
}

fn cache_error(folder: &Path, error: &io::Error) -> Error {
    Error::config("runtime.coreml.cache", format!("{}: {error}", folder.display()))
}

fn unavailable(provider: Provider, reason: &str) -> Error {
    Error::Provider { provider: provider.name().to_owned(), reason: one_line(plain(reason)) }
}

/// What ONNX Runtime says, without the place in its source and the kind of the error before it.
fn plain(message: &str) -> &str {
    const KINDS: [&str; 4] = [" : FAIL : ", " : RUNTIME_EXCEPTION : ", " : EP_FAIL : ", " : NOT_IMPLEMENTED : "];
    let ends = KINDS.iter().filter_map(|kind| message.rfind(kind).map(|at| at + kind.len()));
    &message[ends.max().unwrap_or(0)..]
}

fn describe(device: &EpDevice) -> Device {
    let hardware = device.hardware_device();
    let kind = match hardware.ty() {
        DeviceType::GPU => "gpu",
        DeviceType::NPU => "npu",
        _ => "cpu",
    };
    let description = metadata(hardware.ptr(), c"Description");
    let name = match (hardware.vendor().unwrap_or_default(), description) {
        (_, Some(description)) => description,
        (vendor, None) => vendor.to_owned(),
    };
    Device { name: one_line(&name), kind }
}

/// What the runtime knows of a device beside its maker.
fn metadata(device: *const OrtHardwareDevice, key: &CStr) -> Option<String> {
    // SAFETY: the device lives as long as the environment, and so does what is known of it.
    let pairs = unsafe { ortsys![HardwareDevice_Metadata](device) };
    let key = CString::from(key);
    // SAFETY: as above; the value is NULL or ends with a NUL.
    let value = unsafe { ortsys![GetKeyValue](pairs, key.as_ptr()).as_ref() }?;
    // SAFETY: as above.
    Some(unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_what_the_runtime_says_in_the_end() {
        let message = "/src/bridge.cc:2043 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library x.so with error: \
                       libcublasLt.so.13: cannot open shared object file";
        let error = unavailable(Provider::Cuda, message).to_string();
        assert!(error.starts_with("execution provider cuda: Failed to load library x.so"), "{error}");
        assert_eq!(plain("plain words"), "plain words");
    }

    #[test]
    fn one_node_elsewhere_is_too_many() {
        let on = |provider: &str, operators: &[&str]| Assigned {
            provider: provider.to_owned(),
            operators: operators.iter().map(|operator| (*operator).to_owned()).collect(),
        };
        let own = on("WebGpuExecutionProvider", &["Gather", "MatMul"]);
        let check =
            |assigned: &[Assigned]| check_assigned(Provider::WebGpu, assigned).map_err(|error| error.to_string());
        check(std::slice::from_ref(&own)).unwrap();
        let error = check(&[own, on("CPUExecutionProvider", &["Cast", "Mul"])]).unwrap_err();
        assert!(error.contains("2 nodes of the graph would run on CPUExecutionProvider, the first is Cast"), "{error}");
        assert!(check(&[]).unwrap_err().contains("too old to tell"));
        check_assigned(Provider::Cpu, &[]).unwrap();
    }
}
