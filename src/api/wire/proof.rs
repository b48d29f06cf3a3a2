//! A proof as text, on its way from the one to the other.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::secret::Proof;

pub(super) fn serialize<S: Serializer>(proof: &Proof, to: S) -> Result<S::Ok, S::Error> {
    proof.expose().serialize(to)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Proof, D::Error> {
    Proof::new(String::deserialize(from)?).map_err(serde::de::Error::custom)
}

pub(super) mod optional {
    use super::{Deserialize, Deserializer, Proof, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(proof: &Option<Proof>, to: S) -> Result<S::Ok, S::Error> {
        proof.as_ref().map(Proof::expose).serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Proof>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| Proof::new(text).map_err(serde::de::Error::custom)).transpose()
    }
}
