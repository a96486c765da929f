//! Golden graphs for GPUs, and the same after edits.

use prost::Message;

use super::*;
use crate::{
    bundle::Bundle,
    limits,
    model::onnx::{AttributeProto, DimensionProto, GraphProto, ModelProto, TypeProto},
};

fn bundle() -> Bundle {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target/golden-gpu/grouped-bf16");
    Bundle::open(folder.as_ref()).expect("run `make test-data`")
}

/// The graph of a backend after an edit, and whether it is taken.
fn check(name: &str, edit: &dyn Fn(&mut GraphProto)) -> Result<Vec<u8>, String> {
    let bundle = bundle();
    let graph = &bundle.manifest.graphs[name];
    let bytes = bundle.place.read(graph.file.as_deref().unwrap(), limits::GRAPH_BYTES).unwrap();
    let mut model = ModelProto::decode(&*bytes).unwrap();
    edit(model.graph.as_mut().unwrap());
    let expected = Expected {
        dims: &bundle.manifest.model,
        heads: &bundle.manifest.heads,
        file: &graph.weights,
        weights: bundle.place.len(&graph.weights).unwrap(),
        location: "weights",
    };
    let gpu = Gpu { float: graph.cache.unwrap(), block_tokens: graph.block_tokens.unwrap() };
    checked(&model.encode_to_vec(), &expected, &gpu)
}

const NAMES: [&str; 2] = ["paged_webgpu", "paged_cuda"];

fn refusal(name: &str, edit: &dyn Fn(&mut GraphProto)) -> String {
    let reason = check(name, edit).expect_err("it was accepted");
    assert_eq!(reason.lines().count(), 1, "{reason}");
    reason
}

fn node<'g>(graph: &'g mut GraphProto, operator: &str) -> &'g mut NodeProto {
    graph.node.iter_mut().find(|node| node.op_type() == operator).unwrap()
}

fn attribute<'g>(graph: &'g mut GraphProto, operator: &str, name: &str) -> &'g mut AttributeProto {
    node(graph, operator).attribute.iter_mut().find(|attribute| attribute.name() == name).unwrap()
}

/// The sizes of an input, of which the first is the number of blocks.
fn sizes<'g>(graph: &'g mut GraphProto, input: &str) -> &'g mut Vec<DimensionProto> {
    let value = graph.input.iter_mut().find(|value| value.name() == input).unwrap();
    let TypeProto { tensor_type: Some(tensor) } = value.r#type.as_mut().unwrap() else { panic!("{input}") };
    &mut tensor.shape.as_mut().unwrap().dim
}

#[test]
fn what_the_exporter_writes_is_taken() {
    for name in NAMES {
        let written = check(name, &|_| {}).unwrap();
        let model = ModelProto::decode(&*written).unwrap();
        let external = |tensor: &crate::model::onnx::TensorProto| tensor.external_data.clone();
        let locations = model.graph.unwrap().initializer.iter().flat_map(external).collect::<Vec<_>>();
        let mut locations = locations.iter().filter(|entry| entry.key() == "location").peekable();
        assert!(locations.peek().is_some() && locations.all(|entry| entry.value() == "weights"));
    }
}

/// The runtime looks at no shape of a cache, and its kernels at no index.
#[test]
fn caches_have_their_shape() {
    for name in NAMES {
        for (place, size) in [(1, 16), (2, 1), (2, 4), (3, 64), (0, 4)] {
            let reason = refusal(name, &|graph| sizes(graph, "key_cache.1")[place].dim_value = Some(size));
            assert!(reason.contains("key_cache.1 is not of any number of blocks"), "{reason}");
        }
        refusal(name, &|graph| sizes(graph, "value_cache.0").truncate(3));
        refusal(name, &|graph| graph.input.last_mut().unwrap().r#type = None);
        refusal(name, &|graph| graph.input.swap(0, 1));
        let last = |graph: &mut GraphProto| drop(graph.input.pop());
        assert!(refusal(name, &last).contains("inputs, "));
        refusal(name, &|graph| drop(graph.output.pop()));
    }
}

#[test]
fn attention_is_that_of_the_model() {
    for name in NAMES {
        for (attribute_name, values) in
            [("num_heads", [3, 8, -1]), ("kv_num_heads", [1, 4, 0]), ("do_rotary", [0, 2, -1])]
        {
            for value in values {
                let reason = refusal(name, &|graph| attribute(graph, "PagedAttention", attribute_name).i = Some(value));
                assert!(reason.starts_with("node PagedAttention") && reason.contains(attribute_name), "{reason}");
            }
        }
        for value in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
            refusal(name, &|graph| attribute(graph, "PagedAttention", "scale").f = Some(value));
        }
        for (place, input) in [
            (3, "value_cache.0"),
            (3, "key_cache.1"),
            (5, "past_lens"),
            (7, "cu_seqlens"),
            (8, "rope.none"),
            (10, "input_ids"),
            (14, "norm"),
            (16, ""),
            (16, "past_lens"),
        ] {
            refusal(name, &|graph| node(graph, "PagedAttention").input[place] = input.to_owned());
        }
        refusal(name, &|graph| node(graph, "PagedAttention").output.swap(1, 2));
        refusal(name, &|graph| node(graph, "PagedAttention").input.truncate(16));
        let softcap = AttributeProto {
            name: Some("softcap".to_owned()),
            f: Some(1.0),
            r#type: Some(AttributeProto::FLOAT),
            ..AttributeProto::default()
        };
        let reason = refusal(name, &|graph| node(graph, "PagedAttention").attribute.push(softcap.clone()));
        assert!(reason.contains("\"softcap\" is not expected"), "{reason}");
    }
}

#[test]
fn values_have_the_types_and_widths_of_their_nodes() {
    for name in NAMES {
        for operator in ["MatMul", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", "QuickGelu"] {
            refusal(name, &|graph| node(graph, operator).input[0] = "input_ids".to_owned());
            refusal(name, &|graph| node(graph, operator).op_type = Some("Loop".to_owned()));
        }
        refusal(name, &|graph| attribute(graph, "QuickGelu", "alpha").f = Some(1.702));
        refusal(name, &|graph| attribute(graph, "Cast", "to").i = Some(7));
        // On CUDA the attention takes queries, keys and values as they come.
        if name == "paged_webgpu" {
            refusal(name, &|graph| attribute(graph, "Split", "axis").i = Some(0));
        }
        refusal(name, &|graph| node(graph, "Mul").input[1] = "norm".to_owned());
        refusal(name, &|graph| node(graph, "ReduceSum").input[1] = "norm".to_owned());
        refusal(name, &|graph| graph.node.reverse());
        refusal(name, &|graph| graph.node.retain(|node| node.op_type() != "ReduceSum"));
        for tensor in 0..4 {
            refusal(name, &|graph| graph.initializer[tensor].dims.push(1));
            refusal(name, &|graph| graph.initializer[tensor].data_type = Some(TensorProto::UINT8));
        }
    }
    // A head split anew would read other tokens' numbers.
    refusal("paged_webgpu", &|graph| node(graph, "Reshape").input[1] = "q.shape".to_owned());
    let shape = |value: i64| {
        move |graph: &mut GraphProto| {
            let tensor = graph.initializer.iter_mut().find(|tensor| tensor.name() == "head.shape").unwrap();
            let values = [-1, value].iter().flat_map(|value: &i64| value.to_le_bytes()).collect();
            tensor.raw_data = Some(values);
        }
    };
    check("paged_webgpu", &shape(32)).unwrap();
    for value in [16, 64, 0, -1, i64::MIN] {
        refusal("paged_webgpu", &shape(value));
    }
}
