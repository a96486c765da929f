//! A node's inputs and attributes: as many as its operator has, and no others.

use crate::model::onnx::{AttributeProto, NodeProto};

pub(in crate::model) fn inputs_of<const N: usize>(node: &NodeProto) -> Result<[&str; N], String> {
    let names: Vec<&str> = node.input.iter().map(String::as_str).collect();
    names.try_into().map_err(|names: Vec<&str>| format!("{} inputs, {N} are expected", names.len()))
}

/// A node's attributes, none but those it may have.
pub(in crate::model) struct Attributes<'g>(&'g [AttributeProto]);

impl<'g> Attributes<'g> {
    pub(in crate::model) fn of(node: &'g NodeProto, names: &[&str]) -> Result<Self, String> {
        for (index, attribute) in node.attribute.iter().enumerate() {
            let twice = node.attribute[..index].iter().any(|other| other.name() == attribute.name());
            // What a type does not have would be read by nobody here.
            let other = !attribute.ints.is_empty() && attribute.r#type() != AttributeProto::INTS;
            if twice || other || !names.contains(&attribute.name()) {
                return Err(format!("attribute {:?} is not expected or appears twice", attribute.name()));
            }
        }
        Ok(Attributes(&node.attribute))
    }

    pub(in crate::model) fn ints(&self, name: &str) -> Result<&'g [i64], String> {
        Ok(&self.get(name, AttributeProto::INTS)?.ints)
    }

    fn get(&self, name: &str, kind: i32) -> Result<&'g AttributeProto, String> {
        let found = self.0.iter().find(|attribute| attribute.name() == name && attribute.r#type() == kind);
        found.ok_or_else(|| format!("attribute {name} is missing or has the wrong type"))
    }

    pub(in crate::model) fn int(&self, name: &str) -> Result<i64, String> {
        Ok(self.get(name, AttributeProto::INT)?.i())
    }

    pub(super) fn size(&self, name: &str) -> Result<usize, String> {
        let value = self.int(name)?;
        usize::try_from(value).map_err(|_| format!("attribute {name} is {value}"))
    }

    pub(super) fn float(&self, name: &str) -> Result<f32, String> {
        Ok(self.get(name, AttributeProto::FLOAT)?.f())
    }

    pub(in crate::model) fn is(&self, name: &str, wanted: i64) -> Result<(), String> {
        match self.int(name)? {
            value if value == wanted => Ok(()),
            value => Err(format!("attribute {name} is {value}, not {wanted}")),
        }
    }

    pub(super) fn epsilon(&self) -> Result<(), String> {
        self.non_negative("epsilon")
    }

    pub(super) fn non_negative(&self, name: &str) -> Result<(), String> {
        match self.float(name)? {
            value if value.is_finite() && value >= 0.0 => Ok(()),
            value => Err(format!("attribute {name} is {value}")),
        }
    }

    /// What the scores of an attention are multiplied by.
    pub(super) fn scale(&self) -> Result<(), String> {
        match self.float("scale")? {
            scale if scale.is_finite() && scale > 0.0 => Ok(()),
            scale => Err(format!("attribute scale is {scale}")),
        }
    }
}
