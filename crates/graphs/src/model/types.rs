//! Element types and dimensions.

use crate::proto::{DimensionProto, DimensionValue, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto};

/// What a tensor's elements are; numbers are ONNX's `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// IEEE 754 single precision.
    Float32,
    /// 8-bit unsigned integer.
    Uint8,
    /// 8-bit integer.
    Int8,
    /// 16-bit unsigned integer.
    Uint16,
    /// 16-bit integer.
    Int16,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// Text.
    String,
    /// Truth value.
    Bool,
    /// IEEE 754 half precision.
    Float16,
    /// IEEE 754 double precision.
    Float64,
    /// 32-bit unsigned integer.
    Uint32,
    /// 64-bit unsigned integer.
    Uint64,
    /// The upper half of single precision.
    Bfloat16,
    /// Any other, by its number: complex, 8-bit and 4-bit floats, 4-bit integers.
    Other(i32),
}

/// Every named type with its number, its name and the bits of one element; text counts as its pointer.
const CODES: &[(ElementType, i32, &str, u64)] = &[
    (ElementType::Float32, 1, "float32", 32),
    (ElementType::Uint8, 2, "uint8", 8),
    (ElementType::Int8, 3, "int8", 8),
    (ElementType::Uint16, 4, "uint16", 16),
    (ElementType::Int16, 5, "int16", 16),
    (ElementType::Int32, 6, "int32", 32),
    (ElementType::Int64, 7, "int64", 64),
    (ElementType::String, 8, "string", 64),
    (ElementType::Bool, 9, "bool", 8),
    (ElementType::Float16, 10, "float16", 16),
    (ElementType::Float64, 11, "float64", 64),
    (ElementType::Uint32, 12, "uint32", 32),
    (ElementType::Uint64, 13, "uint64", 64),
    (ElementType::Other(14), 14, "complex64", 64),
    (ElementType::Other(15), 15, "complex128", 128),
    (ElementType::Bfloat16, 16, "bfloat16", 16),
    (ElementType::Other(17), 17, "float8e4m3fn", 8),
    (ElementType::Other(18), 18, "float8e4m3fnuz", 8),
    (ElementType::Other(19), 19, "float8e5m2", 8),
    (ElementType::Other(20), 20, "float8e5m2fnuz", 8),
    (ElementType::Other(21), 21, "uint4", 4),
    (ElementType::Other(22), 22, "int4", 4),
    (ElementType::Other(23), 23, "float4e2m1", 4),
];

impl ElementType {
    pub(crate) fn from_code(code: i32) -> Self {
        CODES.iter().find(|(_, known, ..)| *known == code).map_or(Self::Other(code), |(element, ..)| *element)
    }

    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Other(code) => code,
            named => CODES.iter().find(|(element, ..)| *element == named).map_or(0, |(_, code, ..)| *code),
        }
    }

    /// Its name as ONNX has it, in small letters.
    pub fn as_str(self) -> &'static str {
        CODES.iter().find(|(element, ..)| *element == self).map_or("unknown", |(_, _, name, _)| *name)
    }

    /// Bytes that so many elements take, packed; one of an unknown type counts as a byte.
    pub(crate) fn bytes_of(self, elements: u64) -> u64 {
        let bits = CODES.iter().find(|(element, ..)| *element == self).map_or(8, |(.., bits)| *bits);
        u64::try_from((u128::from(elements) * u128::from(bits)).div_ceil(8)).unwrap_or(u64::MAX)
    }

    /// Whether weights of this type count as parameters.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float32 | Self::Float16 | Self::Float64 | Self::Bfloat16)
    }
}

/// One dimension of an input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Always this long.
    Fixed(u64),
    /// Named, and as long as the shape says; the name is empty if the file gives none.
    Symbol(String),
}

impl Dim {
    pub(crate) fn symbol(name: &str) -> Self {
        Self::Symbol(name.to_owned())
    }

    /// Reads a dimension; zero and below are refused.
    pub(crate) fn of(proto: &DimensionProto) -> Result<Self, String> {
        match &proto.value {
            Some(DimensionValue::Value(value)) => u64::try_from(*value)
                .ok()
                .filter(|value| *value > 0)
                .map(Self::Fixed)
                .ok_or_else(|| format!("a dimension of {value}")),
            Some(DimensionValue::Param(name)) => Ok(Self::Symbol(name.clone())),
            None => Ok(Self::Symbol(String::new())),
        }
    }
}

impl ValueInfoProto {
    pub(crate) fn tensor(name: &str, element: ElementType, dims: &[Dim]) -> Self {
        let dim = dims.iter().map(|dim| {
            let value = match dim {
                Dim::Fixed(value) => DimensionValue::Value(i64::try_from(*value).unwrap_or(i64::MAX)),
                Dim::Symbol(name) => DimensionValue::Param(name.clone()),
            };
            DimensionProto { value: Some(value) }
        });
        let shape = Some(TensorShapeProto { dim: dim.collect() });
        let tensor_type = Some(TensorTypeProto { elem_type: element.code(), shape });
        Self { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
    }

    /// Element type and dimensions, if this is a tensor whose rank is known.
    pub(crate) fn as_tensor(&self) -> Option<(ElementType, &[DimensionProto])> {
        let tensor = self.r#type.as_ref()?.tensor_type.as_ref()?;
        Some((ElementType::from_code(tensor.elem_type), &tensor.shape.as_ref()?.dim))
    }
}
