//! The graph of the nano guard, and the same after edits.

use prost::Message;

use super::*;
use crate::{
    bundle::Head,
    model::onnx::{AttributeProto, GraphProto, ModelProto, StringStringEntryProto},
};

const GRAPH: &[u8] = include_bytes!("../../../export/nano/bundle/paged.onnx");

fn dims() -> Dimensions {
    Dimensions {
        architecture: String::new(),
        vocab_size: 6144,
        hidden_size: 192,
        num_layers: 3,
        num_heads: 6,
        num_kv_heads: 2,
        head_dim: 32,
        context: 2048,
        rope_theta: None,
    }
}

/// The heads of the nano guard, after an edit.
fn heads(edit: impl FnOnce(&mut toml::Table)) -> Vec<Head> {
    let manifest = include_str!("../../../export/nano/bundle/guard.toml");
    let mut manifest: toml::Table = manifest.parse().unwrap();
    edit(&mut manifest);
    manifest["heads"].clone().try_into().unwrap()
}

fn check(bytes: &[u8], dims: &Dimensions) -> Result<Vec<u8>, String> {
    check_with(bytes, dims, &heads(|_| {}))
}

fn check_with(bytes: &[u8], dims: &Dimensions, heads: &[Head]) -> Result<Vec<u8>, String> {
    checked(bytes, &Expected { dims, heads, file: "weights.bin", weights: 4108288, location: "weights.bin" })
}

/// What is said about a graph after an edit.
fn refusal(edit: impl FnOnce(&mut GraphProto)) -> String {
    let mut model = ModelProto::decode(GRAPH).unwrap();
    edit(model.graph.as_mut().unwrap());
    let reason = check(&model.encode_to_vec(), &dims()).expect_err("it was accepted");
    assert_eq!(reason.lines().count(), 1, "{reason}");
    reason
}

fn node<'g>(graph: &'g mut GraphProto, operator: &str) -> &'g mut NodeProto {
    graph.node.iter_mut().find(|node| node.op_type() == operator).unwrap()
}

fn attribute<'g>(graph: &'g mut GraphProto, operator: &str, name: &str) -> &'g mut AttributeProto {
    node(graph, operator).attribute.iter_mut().find(|attribute| attribute.name() == name).unwrap()
}

fn tensor<'g>(graph: &'g mut GraphProto, name: &str) -> &'g mut TensorProto {
    graph.initializer.iter_mut().find(|tensor| tensor.name() == name).unwrap()
}

fn entry<'g>(graph: &'g mut GraphProto, key: &str) -> &'g mut StringStringEntryProto {
    tensor(graph, "embed").external_data.iter_mut().find(|entry| entry.key() == key).unwrap()
}

#[test]
fn what_was_checked_stays_what_it_was() {
    let once = check(GRAPH, &dims()).unwrap();
    assert_eq!(check(&once, &dims()).unwrap(), once);
    assert_eq!(ModelProto::decode(&*once).unwrap(), ModelProto::decode(GRAPH).unwrap());
    // Doubling every byte string of fields that are not known changes nothing: they do not come through.
    let mut more = GRAPH.to_vec();
    more.extend(b"\xCA\x01\x02hi");
    assert_eq!(check(&more, &dims()).unwrap(), once);
}

#[test]
fn attributes_are_those_of_the_manifest() {
    for (operator, name) in [
        ("PagedAttention", "layer"),
        ("PagedAttention", "num_heads"),
        ("PagedAttention", "kv_num_heads"),
        ("PagedAttention", "head_dim"),
        ("MatMulInt8", "K"),
        ("MatMulInt8", "N"),
        ("MatMulInt8", "group"),
        ("Gather", "axis"),
        ("Cast", "to"),
        ("SimplifiedLayerNormalization", "axis"),
        ("ReduceSum", "keepdims"),
    ] {
        for value in [(1 << 59) + 6, i64::MAX, i64::MIN, -7, 0x1_0000_0006, 12] {
            let reason = refusal(|graph| attribute(graph, operator, name).i = Some(value));
            assert!(reason.starts_with(&format!("node {operator} ")), "{reason}");
        }
        refusal(|graph| attribute(graph, operator, name).r#type = Some(AttributeProto::FLOAT));
        refusal(|graph| node(graph, operator).attribute.retain(|attribute| attribute.name() != name));
    }
    for name in ["scale", "epsilon"] {
        for value in [f32::NAN, f32::INFINITY, -1.0] {
            let reason = refusal(|graph| attribute(graph, "PagedAttention", name).f = Some(value));
            assert!(reason.contains(name), "{reason}");
        }
    }
    for operator in ["SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"] {
        assert!(refusal(|graph| attribute(graph, operator, "epsilon").f = Some(f32::NAN)).contains("epsilon"));
    }
}

#[test]
fn dimensions_are_those_of_the_graph() {
    let edits: [fn(&mut Dimensions); 8] = [
        |dims| dims.vocab_size += 1,
        |dims| dims.hidden_size += 1,
        |dims| dims.num_layers += 1,
        |dims| dims.num_layers -= 1,
        |dims| dims.num_heads += 2,
        |dims| dims.num_kv_heads = 1,
        |dims| dims.head_dim = 64,
        |dims| dims.context += 1,
    ];
    for edit in edits {
        let mut dims = dims();
        edit(&mut dims);
        assert!(check(GRAPH, &dims).is_err(), "{dims:?}");
    }
}

#[test]
fn heads_are_those_of_the_manifest() {
    type Edit = fn(&mut toml::Table);
    let edits: [(Edit, &str); 7] = [
        (
            |table| table["heads"][1]["labels"] = vec!["PII"; 7].into(),
            "output response_category is missing or not what",
        ),
        (|table| table["heads"][2]["labels"] = vec!["Safe"; 4].into(), "output query_risk is missing or not what"),
        (|table| table["heads"][0]["name"] = "other".into(), "output other is missing"),
        // Heads of one role for the rows of the other, an input that is not there, inputs in another order.
        (|table| table["heads"][0]["rows"] = "query_rows".into(), "is not"),
        (|table| table["heads"][3]["rows"] = "response_rows".into(), "query_category is missing or not what"),
        (|table| table["heads"][3]["rows"] = "other_rows".into(), "inputs"),
        (|table| drop(table["heads"].as_array_mut().unwrap().pop()), "outputs, 10 are expected"),
    ];
    for (edit, expected) in edits {
        let reason = check_with(GRAPH, &dims(), &heads(edit)).expect_err(expected);
        assert!(reason.contains(expected), "{reason}");
    }
}

/// Whatever else the sum of, or the rows of, would be: rows could be wrong unseen.
#[test]
fn heads_and_the_row_check_read_the_last_hidden_states() {
    for operator in ["ReduceSum", "Gather"] {
        let reason = refusal(|graph| {
            let hidden = "/layers.1/mlp/down_proj/output".to_owned();
            graph.node.iter_mut().rev().find(|node| node.op_type() == operator).unwrap().input[0] = hidden;
        });
        assert!(reason.contains("is not the hidden states"), "{reason}");
    }
    let axes = |graph: &mut GraphProto, value: i64| {
        tensor(graph, "row_check.axes").raw_data = Some(value.to_le_bytes().to_vec())
    };
    for value in [0, 1, -2, i64::MIN] {
        assert!(refusal(|graph| axes(graph, value)).contains("is not -1"));
    }
    refusal(|graph| tensor(graph, "row_check.axes").dims = vec![]);
    refusal(|graph| tensor(graph, "row_check.axes").data_type = Some(TensorProto::FLOAT));
    refusal(|graph| node(graph, "ReduceSum").input[1] = "norm".into());
    refusal(|graph| graph.node.retain(|node| node.op_type() != "ReduceSum"));
    // Rows of heads are no rows of tokens.
    let reason = refusal(|graph| node(graph, "ReduceSum").input[0] = "/heads/response/pre/output".into());
    assert!(reason.contains("/heads/response/pre/output"), "{reason}");
    for rows in ["input_ids", "past_lens", "row_check.axes", "norm", "other_rows"] {
        let reason = refusal(|graph| {
            graph.node.iter_mut().rev().find(|node| node.op_type() == "Gather").unwrap().input[1] = rows.into();
        });
        assert!(reason.contains("is not the rows of a head"), "{reason}");
    }
    // The heads of prompts for the rows of answers.
    let reason = refusal(|graph| {
        graph.node.iter_mut().rev().find(|node| node.op_type() == "Gather").unwrap().input[1] = "response_rows".into();
    });
    assert!(
        reason.contains("query_risk is missing or not what guard.toml says, 3 classes for each of query_rows"),
        "{reason}"
    );
}

#[test]
fn weights_lie_in_the_bundle() {
    for location in ["../../etc/passwd", "/etc/passwd", "./weights.bin", "guard.toml", "", "weights.bin\0"] {
        let reason = refusal(|graph| entry(graph, "location").value = Some(location.to_owned()));
        assert!(reason.contains("only weights.bin can be"), "{reason}");
    }
    for (key, value) in [
        ("offset", "4108288"),
        ("offset", "18446744073709551615"),
        ("offset", "99999999999999999999"),
        ("offset", "-4096"),
        ("offset", "+0"),
        ("offset", "4"),
        ("length", "0"),
        ("length", "18446744073709551615"),
        ("length", "4108289"),
    ] {
        let reason = refusal(|graph| entry(graph, key).value = Some(value.to_owned()));
        assert!(reason.starts_with("tensor \"embed\""), "{key} {value}: {reason}");
    }
    refusal(|graph| tensor(graph, "embed").external_data.clear());
    refusal(|graph| tensor(graph, "embed").data_location = None);
    refusal(|graph| tensor(graph, "embed").raw_data = Some(vec![0; 4]));
    refusal(|graph| {
        let again = entry(graph, "location").clone();
        tensor(graph, "embed").external_data.push(again);
    });
}

#[test]
fn tensors_have_the_sizes_that_they_say() {
    for dims in
        [vec![1 << 40, 1 << 40], vec![i64::MAX], vec![-6144, -192], vec![0], vec![], vec![192, 6144], vec![1; 9]]
    {
        let reason = refusal(|graph| tensor(graph, "embed").dims = dims);
        assert!(reason.contains("embed") || reason.contains("Gather"), "{reason}");
    }
    for kind in [0, 7, 8, 11, 99, -1] {
        refusal(|graph| tensor(graph, "embed").data_type = Some(kind));
    }
    for name in ["rope.cos", "rope.sin", "layers.0.attn.q_norm", "layers.1.attn.qkv.packed", "norm", "heads.query.pre"]
    {
        refusal(|graph| {
            tensor(graph, name).dims.push(1);
        });
        refusal(|graph| tensor(graph, name).name = Some("other".into()));
        refusal(|graph| tensor(graph, name).data_type = Some(TensorProto::BFLOAT16));
    }
    let reason = refusal(|graph| {
        let scales = tensor(graph, "layers.1.attn.qkv.scales");
        let bytes = scales.raw_data.as_mut().expect("scales of a small matrix are in the graph");
        bytes.extend_from_within(..);
        scales.data_type = Some(TensorProto::FLOAT);
    });
    assert!(reason.contains("layers.1.attn.qkv.scales") && reason.contains("export it again"), "{reason}");
    refusal(|graph| graph.initializer.push(graph.initializer[0].clone()));
    refusal(|graph| tensor(graph, "norm").name = Some("input_ids".into()));
}

#[test]
fn only_known_operators_run_in_their_order() {
    for (operator, domain) in [("Loop", ""), ("If", ""), ("SwiGlu", ""), ("MatMul", "com.microsoft"), ("MatMul", "x")] {
        let reason = refusal(|graph| {
            let node = node(graph, "MatMul");
            (node.op_type, node.domain) = (Some(operator.into()), Some(domain.into()));
        });
        assert!(reason.contains(operator) && reason.contains("is not supported"), "{reason}");
    }
    refusal(|graph| graph.node.reverse());
    refusal(|graph| graph.node.push(graph.node[0].clone()));
    refusal(|graph| node(graph, "SwiGlu").output.clear());
    refusal(|graph| node(graph, "SwiGlu").output[0] = "input_ids".into());
    refusal(|graph| node(graph, "SwiGlu").input[0] = "norm".into());
    refusal(|graph| node(graph, "PagedAttention").input.swap(1, 2));
    refusal(|graph| node(graph, "PagedAttention").input.swap(3, 4));
    refusal(|graph| node(graph, "PagedAttention").input[1] = "key_cache.1".into());
    refusal(|graph| node(graph, "PagedAttention").output.swap(1, 2));
    refusal(|graph| drop(graph.input.pop()));
    refusal(|graph| drop(graph.output.pop()));
    refusal(|graph| graph.input.swap(0, 1));
    refusal(|graph| graph.output[0].name = Some("norm".into()));
    refusal(|graph| graph.node.truncate(3));
    let many = graph_of(100_000);
    assert!(check(&many, &dims()).unwrap_err().contains("the limits are"));
}

fn graph_of(nodes: usize) -> Vec<u8> {
    let mut model = ModelProto::decode(GRAPH).unwrap();
    let graph = model.graph.as_mut().unwrap();
    graph.node = vec![graph.node[0].clone(); nodes];
    model.encode_to_vec()
}

#[test]
fn what_is_no_model_is_refused() {
    for bytes in [&b""[..], b"\x3A\x00", b"nonsense", &GRAPH[..GRAPH.len() / 2], &[0xFF; 99], &[0x0B; 100_000]] {
        assert!(check(bytes, &dims()).is_err());
    }
    let mut model = ModelProto::decode(GRAPH).unwrap();
    model.opset_import[0].version = Some(i64::MAX);
    assert!(check(&model.encode_to_vec(), &dims()).unwrap_err().contains("opset"));
    model = ModelProto::decode(GRAPH).unwrap();
    model.ir_version = Some(99);
    assert!(check(&model.encode_to_vec(), &dims()).unwrap_err().contains("ir_version"));
}

/// What only models have that write their verdict.
#[test]
fn a_table_that_is_embedding_and_head_is_checked() {
    let bundle = |precision: &str| {
        let folder = format!("{}/target/golden-gen/tied-bf16-{precision}", env!("CARGO_MANIFEST_DIR"));
        let bundle = crate::bundle::Bundle::open(folder.as_ref()).expect("run `make test-data`");
        let graph = std::fs::read(format!("{folder}/paged.onnx")).unwrap();
        (bundle, ModelProto::decode(&*graph).unwrap())
    };
    for (precision, operator, names) in [
        ("fp32", "Gemm", &["transB"][..]),
        ("int8", "GatherInt8", &["K", "N", "group"]),
        ("int4", "GatherInt8", &["N"]),
        ("int4", "MatMulInt4", &["K", "N", "group"]),
    ] {
        let (bundle, model) = bundle(precision);
        let check = |edit: &dyn Fn(&mut GraphProto)| {
            let mut model = model.clone();
            edit(model.graph.as_mut().unwrap());
            let (dims, heads) = (&bundle.manifest.model, &bundle.manifest.heads[..]);
            let weights = bundle.place.len("weights.bin").unwrap();
            checked(
                &model.encode_to_vec(),
                &Expected { dims, heads, file: "weights.bin", weights, location: "weights.bin" },
            )
        };
        check(&|_| {}).unwrap();
        let refused = |edit: &dyn Fn(&mut GraphProto)| check(edit).expect_err("it was accepted");
        for name in names {
            for value in [0, 2, -1, 96, i64::MAX, i64::MIN] {
                let reason = refused(&|graph| attribute(graph, operator, name).i = Some(value));
                assert!(reason.starts_with(&format!("node {operator} ")), "{reason}");
            }
            refused(&|graph| node(graph, operator).attribute.retain(|attribute| attribute.name() != *name));
        }
        refused(&|graph| node(graph, operator).input.swap(0, 1));
        refused(&|graph| node(graph, operator).input[1] = "norm".into());
        refused(&|graph| node(graph, operator).input.truncate(1));
        refused(&|graph| drop(node(graph, operator).input.pop()));
        refused(&|graph| *node(graph, operator).input.last_mut().unwrap() = "past_lens".into());
        let again = |graph: &mut GraphProto| {
            let attribute = node(graph, operator).attribute[0].clone();
            node(graph, operator).attribute.push(attribute);
        };
        refused(&again);
        for name in ["embed", "embed.packed", "embed.scales"] {
            if model.graph.as_ref().unwrap().initializer.iter().any(|tensor| tensor.name() == name) {
                refused(&|graph| tensor(graph, name).dims.swap(0, 1));
                refused(&|graph| tensor(graph, name).data_type = Some(TensorProto::FLOAT16));
            }
        }
    }
}

/// A golden bundle whose weights have zero points: where they may be, and what is said of those that do not fit.
#[test]
fn zero_points_are_checked() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target/golden/odd-bf16-int4-zero-points");
    let bundle = crate::bundle::Bundle::open(folder.as_ref()).expect("run `make test-data`");
    let model = ModelProto::decode(&*std::fs::read(format!("{folder}/paged.onnx")).unwrap()).unwrap();
    let weights = bundle.place.len("weights.bin").unwrap();
    let check = |edit: &dyn Fn(&mut GraphProto)| {
        let mut model = model.clone();
        edit(model.graph.as_mut().unwrap());
        let (dims, heads) = (&bundle.manifest.model, &bundle.manifest.heads[..]);
        let expected = Expected { dims, heads, file: "weights.bin", weights, location: "weights.bin" };
        checked(&model.encode_to_vec(), &expected)
    };
    check(&|_| {}).unwrap();
    // Without them it is another matrix, but one.
    check(&|graph| drop(node(graph, "MatMulInt4").input.pop())).unwrap();
    let name = node(&mut model.graph.clone().unwrap(), "MatMulInt4").input[3].clone();
    let refused = |edit: &dyn Fn(&mut GraphProto)| check(edit).expect_err("it was accepted");
    let names_it = |edit: &dyn Fn(&mut TensorProto)| {
        let reason = refused(&|graph| edit(tensor(graph, &name)));
        assert!(reason.starts_with("node MatMulInt4 ") && reason.contains(&format!("tensor {name:?}")), "{reason}");
    };
    names_it(&|tensor| tensor.dims.swap(1, 2));
    names_it(&|tensor| tensor.dims.insert(0, 1));
    names_it(&|tensor| {
        // As many bytes, in a type that the file may have.
        *tensor.dims.last_mut().unwrap() /= 2;
        tensor.data_type = Some(TensorProto::FLOAT16);
    });
    names_it(&|tensor| tensor.name = Some("other".into()));
    let reason = refused(&|graph| {
        let tensor = tensor(graph, &name);
        tensor.dims[0] += 1;
    });
    assert!(reason.starts_with(&format!("tensor {name:?}")), "{reason}");
    refused(&|graph| node(graph, "MatMulInt4").input[3] = String::new());
    refused(&|graph| node(graph, "MatMulInt4").input[3] = "past_lens".into());
    refused(&|graph| node(graph, "MatMulInt4").input.swap(1, 3));
    let reason = refused(&|graph| node(graph, "MatMulInt4").input.push(name.clone()));
    assert!(reason.contains("5 inputs, 3 are expected"), "{reason}");
    // Weights of 8 bits have none.
    let reason = refused(&|graph| node(graph, "MatMulInt4").op_type = Some("MatMulInt8".into()));
    assert!(reason.contains("4 inputs, 3 are expected"), "{reason}");
}
