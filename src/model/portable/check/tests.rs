use std::path::Path;

use prost::Message;

use super::*;
use crate::{
    bundle::Bundle,
    model::onnx::{AttributeProto, DimensionProto, ModelProto, OperatorSetIdProto},
};

fn bundle(name: &str) -> Bundle {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/golden-portable").join(name);
    Bundle::open(&folder).expect("run `make test-data`")
}

/// A graph of a bundle, and what it is held to.
struct Case {
    bundle: Bundle,
    variant: Variant,
    model: ModelProto,
}

impl Case {
    fn new(name: &str, append: Append) -> Self {
        let bundle = bundle(name);
        let variants = &bundle.manifest.graphs["portable"].variants;
        let of = |variant: &&Variant| variant.append == append && (variant.new_tokens, variant.slots) == (16, 3);
        let variant = variants.iter().find(of).unwrap().clone();
        let bytes = bundle.place.read(&variant.file, u64::MAX).unwrap();
        Case { model: ModelProto::decode(&*bytes).unwrap(), bundle, variant }
    }

    fn check(&self, edit: &dyn Fn(&mut ModelProto)) -> Result<Vec<u8>, String> {
        let mut model = self.model.clone();
        edit(&mut model);
        let manifest = &self.bundle.manifest;
        let graph = &manifest.graphs["portable"];
        let heads: Vec<&Head> = manifest.heads.iter().collect();
        let element = Element::of(graph.cache.unwrap()).unwrap();
        let [inputs, outputs] = of_variant(&self.variant, (&manifest.model, &heads), element, false);
        let bytes = self.bundle.place.len(&graph.weights).unwrap();
        let weights = External { name: &graph.weights, bytes };
        checked(
            &model.encode_to_vec(),
            &Expected { dims: &manifest.model, inputs, outputs, weights, location: "there.bin" },
        )
    }

    /// What is said about a graph after an edit.
    fn refusal(&self, edit: &dyn Fn(&mut GraphProto)) -> String {
        let reason = self.check(&|model| edit(model.graph.as_mut().unwrap())).expect_err("it was accepted");
        assert_eq!(reason.lines().count(), 1, "{reason}");
        reason
    }
}

fn cases() -> [Case; 2] {
    [Case::new("grouped-bf16-fp32", Append::Rows), Case::new("odd-bf16-fp16", Append::Scatter)]
}

fn node<'g>(graph: &'g mut GraphProto, operator: &str) -> &'g mut NodeProto {
    graph.node.iter_mut().find(|node| node.op_type() == operator).unwrap()
}

fn attribute<'g>(graph: &'g mut GraphProto, operator: &str, name: &str) -> &'g mut AttributeProto {
    node(graph, operator).attribute.iter_mut().find(|attribute| attribute.name() == name).unwrap()
}

/// A tensor in the file of weights.
fn external(graph: &mut GraphProto) -> &mut TensorProto {
    graph.initializer.iter_mut().find(|tensor| tensor.data_location() == TensorProto::EXTERNAL).unwrap()
}

#[test]
fn what_was_checked_names_the_weights_where_they_are() {
    for case in cases() {
        let once = case.check(&|_| {}).unwrap();
        let model = ModelProto::decode(&*once).unwrap();
        let tensors = &model.graph.as_ref().unwrap().initializer;
        let mut locations =
            tensors.iter().flat_map(|tensor| &tensor.external_data).filter(|entry| entry.key() == "location");
        assert!(locations.all(|entry| entry.value() == "there.bin"));
        assert_eq!(model.graph.unwrap().node, case.model.graph.as_ref().unwrap().node);
    }
}

#[test]
fn only_standard_operators_in_their_order() {
    for case in cases() {
        for (operator, domain) in
            [("Loop", ""), ("If", ""), ("Gather", ""), ("MatMul", "com.microsoft"), ("MatMul", "x")]
        {
            let reason = case.refusal(&|graph| {
                let node = node(graph, "MatMul");
                (node.op_type, node.domain) = (Some(operator.into()), Some(domain.into()));
            });
            assert!(reason.starts_with("node ") && reason.contains("is not supported"), "{reason}");
        }
        assert!(case.refusal(&|graph| graph.node.reverse()).contains("not computed before"));
        assert!(case.refusal(&|graph| graph.node.truncate(5)).contains("is not computed"));
        case.refusal(&|graph| graph.node.push(graph.node[0].clone()));
        case.refusal(&|graph| node(graph, "MatMul").output.clear());
        case.refusal(&|graph| node(graph, "MatMul").output[0] = "embeds".into());
        case.refusal(&|graph| drop(node(graph, "MatMul").input.pop()));
        case.refusal(&|graph| node(graph, "MatMul").input[1] = "embeds".into());
        let many = |graph: &mut GraphProto| graph.node = vec![graph.node[0].clone(); 100_000];
        assert!(case.refusal(&many).contains("the limits are"));
        let opset = |model: &mut ModelProto| {
            model.opset_import.push(OperatorSetIdProto { domain: Some("ai.qwenguard".into()), version: Some(1) })
        };
        assert!(case.check(&opset).unwrap_err().contains("opsets"));
        assert!(case.check(&|model| model.opset_import[0].version = Some(22)).unwrap_err().contains("opsets"));
        assert!(case.check(&|model| model.ir_version = Some(99)).unwrap_err().contains("ir_version"));
    }
}

#[test]
fn weights_lie_in_the_file_that_is_named() {
    for case in cases() {
        for location in ["../../etc/passwd", "/etc/passwd", "weights.bin", "guard.toml", ""] {
            let reason = case.refusal(&|graph| external(graph).external_data[0].value = Some(location.into()));
            assert!(reason.contains("can be"), "{reason}");
        }
        for (key, value) in [("offset", "99999999999"), ("offset", "-4096"), ("offset", "3"), ("length", "1")] {
            let reason = case.refusal(&|graph| {
                let entries = &mut external(graph).external_data;
                entries.iter_mut().find(|entry| entry.key() == key).unwrap().value = Some(value.into());
            });
            assert!(reason.starts_with("tensor "), "{reason}");
        }
        case.refusal(&|graph| external(graph).external_data.clear());
        case.refusal(&|graph| external(graph).dims[0] += 1);
        case.refusal(&|graph| graph.initializer.push(graph.initializer[0].clone()));
        case.refusal(&|graph| external(graph).name = Some("mask".into()));
    }
}

#[test]
fn inputs_and_outputs_are_those_of_the_variant() {
    for case in cases() {
        let name = |graph: &GraphProto, index: usize| graph.input[index].name().to_owned();
        for index in 0..4 {
            let named = name(case.model.graph.as_ref().unwrap(), index);
            let reason = case.refusal(&|graph| graph.input[index].name = Some("other".into()));
            assert!(reason.contains(&named), "{reason}");
            let dim = |graph: &mut GraphProto, value: DimensionProto| {
                let tensor = graph.input[index].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
                tensor.shape.as_mut().unwrap().dim[0] = value;
            };
            let number = |value| DimensionProto { dim_value: Some(value), dim_param: None };
            for value in [2, 0, -1, i64::MAX] {
                assert!(case.refusal(&|graph| dim(graph, number(value))).contains(&named));
            }
            let open = DimensionProto { dim_value: None, dim_param: Some("streams".into()) };
            assert!(case.refusal(&|graph| dim(graph, open.clone())).contains(&named));
        }
        assert!(case.refusal(&|graph| drop(graph.input.pop())).contains("is missing"));
        assert!(case.refusal(&|graph| drop(graph.output.pop())).contains("is missing"));
        assert!(case.refusal(&|graph| graph.output.push(graph.output[0].clone())).contains("outputs"));
        // Swapped caches have the right shapes, but an output has to be computed.
        assert!(case.refusal(&|graph| graph.output[0].name = Some("embeds".into())).contains("response_risk"));
        // A graph of other shapes than guard.toml says.
        let mut other = Case { variant: case.variant.clone(), bundle: bundle(&case.name()), model: case.model.clone() };
        other.variant.new_tokens = 17;
        assert!(other.check(&|_| {}).unwrap_err().contains("guard.toml says"));
        other.variant = Variant { context: case.variant.context + 1, ..case.variant.clone() };
        assert!(other.check(&|_| {}).unwrap_err().contains("mask"));
    }
}

impl Case {
    fn name(&self) -> String {
        Path::new(&self.bundle.name()).file_name().unwrap().to_str().unwrap().to_owned()
    }
}

#[test]
fn shapes_and_attributes_fit_each_other() {
    for case in cases() {
        for (operator, name) in [("ReduceMean", "keepdims"), ("Softmax", "axis"), ("Concat", "axis"), ("Split", "axis")]
        {
            for value in [2, -3, i64::MAX] {
                let reason = case.refusal(&|graph| attribute(graph, operator, name).i = Some(value));
                assert!(reason.starts_with(&format!("node {operator} ")), "{reason}");
            }
            case.refusal(&|graph| node(graph, operator).attribute.retain(|attribute| attribute.name() != name));
        }
        for axes in [vec![], vec![0], vec![-1, -2]] {
            assert!(case.refusal(&|graph| attribute(graph, "ReduceMean", "axes").ints = axes.clone()).contains("axes"));
        }
        for order in [vec![], vec![0, 1, 2], vec![0, 0, 2, 3], vec![0, 1, 2, 9]] {
            assert!(case.refusal(&|graph| attribute(graph, "Transpose", "perm").ints = order.clone()).contains("perm"));
        }
        let shape = |graph: &mut GraphProto, numbers: &[i64]| {
            let name = node(graph, "Reshape").input[1].clone();
            let tensor = graph.initializer.iter_mut().find(|tensor| tensor.name() == name).unwrap();
            tensor.dims = vec![numbers.len() as i64];
            tensor.raw_data = Some(numbers.iter().flat_map(|number| number.to_le_bytes()).collect());
        };
        for numbers in [&[-1, 1][..], &[0, 1], &[7], &[i64::MAX, i64::MAX]] {
            assert!(case.refusal(&|graph| shape(graph, numbers)).contains("does not become"));
        }
        case.refusal(&|graph| node(graph, "Reshape").input[1] = "embeds".into());
        case.refusal(&|graph| node(graph, "Add").input[0] = "cos".into());
    }
    let scatter = &cases()[1];
    scatter.refusal(&|graph| node(graph, "ScatterND").input[1] = "mask".into());
    scatter.refusal(&|graph| node(graph, "ScatterND").input.swap(0, 2));
    scatter.refusal(&|graph| node(graph, "Cast").attribute[0].i = Some(TensorProto::INT64.into()));
}

#[test]
fn heads_of_their_own_are_checked() {
    for name in ["tied-bf16-fp16", "untied-fp16-fp32"] {
        let bundle = bundle(name);
        let manifest = &bundle.manifest;
        let graph = &manifest.graphs["portable"];
        let head = manifest.heads.iter().find(|head| head.name == graph.heads[0].name).unwrap();
        let bytes = bundle.place.read(&graph.heads[0].file, u64::MAX).unwrap();
        let check = |dims: &Dimensions, file: &str| {
            let [inputs, outputs] = of_head(head, dims, Element::of(graph.cache.unwrap()).unwrap());
            let weights = External { name: file, bytes: bundle.place.len(&graph.weights).unwrap() };
            checked(&bytes, &Expected { dims, inputs, outputs, weights, location: file })
        };
        check(&manifest.model, &graph.weights).unwrap();
        assert!(check(&manifest.model, "other.bin").unwrap_err().contains("other.bin"));
        let other = Dimensions { vocab_size: 641, ..manifest.model.clone() };
        assert!(check(&other, &graph.weights).unwrap_err().contains("next_token"));
    }
}

#[test]
fn what_is_no_model_is_refused() {
    let case = &cases()[0];
    let bytes = case.model.encode_to_vec();
    for bytes in [&b""[..], b"nonsense", &bytes[..bytes.len() / 2], &[0xFF; 99]] {
        let dims = &case.bundle.manifest.model;
        let weights = External { name: "weights.bin", bytes: 0 };
        let expected = Expected { dims, inputs: vec![], outputs: vec![], weights, location: "weights.bin" };
        assert!(checked(bytes, &expected).is_err());
    }
}
