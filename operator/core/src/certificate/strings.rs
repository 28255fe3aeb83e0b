//! The strings of names in certificates: every string type of ASN.1 (X.680 §41), in whatever encoding it came.

use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::x509::X509Name;

/// Bytes of a string that are looked at; a name keeps 256 characters of it, of at most 4 bytes each.
const MAX_BYTES: usize = 1024;

/// The text of an attribute's value; `None` where it is no string, or an empty one.
pub(super) fn text(value: &Any<'_>) -> Option<String> {
    let bytes = value.data.get(..MAX_BYTES).unwrap_or(value.data);
    let text = match value.tag() {
        Tag::BmpString => utf16(bytes),
        Tag::UniversalString => utf32(bytes),
        Tag::Utf8String
        | Tag::NumericString
        | Tag::PrintableString
        | Tag::T61String
        | Tag::VideotexString
        | Tag::Ia5String
        | Tag::GraphicString
        | Tag::VisibleString
        | Tag::GeneralString => eight_bit(bytes),
        _ => return None,
    };
    Some(text).filter(|text| !text.trim().is_empty())
}

/// UTF-8, whatever the type promises; what isn't, is Latin-1 (as everybody writes TeletexString).
fn eight_bit(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        // Cut within a character, not wrong.
        Err(error) if error.error_len().is_none() => String::from_utf8_lossy(bytes).into_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| match pair {
        [high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    });
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

fn utf32(bytes: &[u8]) -> String {
    bytes
        .chunks_exact(4)
        .map(|four| match four {
            [a, b, c, d] => char::from_u32(u32::from_be_bytes([*a, *b, *c, *d])),
            _ => None,
        })
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// The most specific common name: RFC 4514 writes names from the last attribute on.
pub(super) fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name()
        .filter_map(|attribute| text(attribute.attr_value()))
        .last()
}

/// The common name, else the most specific attribute that is a string.
pub(super) fn any_name(name: &X509Name<'_>) -> Option<String> {
    common_name(name).or_else(|| {
        name.iter_attributes()
            .filter_map(|attribute| text(attribute.attr_value()))
            .last()
    })
}
