//! PEM as people have it (RFC 7468 and worse): a BOM, CRLF, indentation, text in any encoding around the blocks, END
//! and BEGIN on one line, no line feed at the end.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// Labels of a block that holds an X.509 certificate; `TRUSTED` ones have OpenSSL's own data behind it.
const CERTIFICATE: [&[u8]; 2] = [b"CERTIFICATE", b"X509 CERTIFICATE"];
const TRUSTED: &[u8] = b"TRUSTED CERTIFICATE";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The blocks that begin as a certificate, one after the other; `None` for one that isn't whole.
pub(super) fn blocks(bytes: &[u8]) -> impl Iterator<Item = Option<Vec<u8>>> {
    labelled(bytes).filter_map(|(label, body)| {
        let trusted = label == TRUSTED;
        if !trusted && !CERTIFICATE.contains(&label) {
            return None;
        }
        let der = body.and_then(decode);
        Some(if trusted { der.and_then(first_element) } else { der })
    })
}

/// The first block with one of these labels, decoded.
pub(super) fn first_with(bytes: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<(&[u8], Option<Vec<u8>>)> {
    labelled(bytes)
        .find(|(label, _)| wanted(label))
        .map(|(label, body)| (label, body.and_then(decode)))
}

/// Every block: its label and what stands between its lines, which is `None` where its end is missing or is another's.
fn labelled(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            rest = rest.get(find(rest, BEGIN)? + BEGIN.len()..)?;
            // A label is short and in one line; else this was no line of PEM.
            let head = rest.get(..64).unwrap_or(rest);
            let Some(length) = find(head, DASHES) else { continue };
            let label = rest.get(..length)?;
            if label.iter().any(u8::is_ascii_control) {
                continue;
            }
            let body = rest.get(length + DASHES.len()..)?;
            rest = body;
            // The next line of dashes ends the block, or begins another one: then this one has no end.
            let stop = find(body, DASHES)?;
            let (inside, after) = (body.get(..stop)?, body.get(stop..)?);
            let ends = after
                .strip_prefix(END)
                .and_then(|after| after.strip_prefix(label))
                .is_some_and(|after| after.starts_with(DASHES));
            return Some((label, ends.then_some(inside)));
        }
    })
    .chain(unfinished(bytes))
}

/// A last block after whose first line no dashes come: it has begun, too.
fn unfinished(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let last = rfind(bytes, BEGIN)
        .and_then(|at| bytes.get(at + BEGIN.len()..))
        .and_then(|rest| {
            let length = find(rest.get(..64).unwrap_or(rest), DASHES)?;
            let (label, body) = (rest.get(..length)?, rest.get(length + DASHES.len()..)?);
            (find(body, DASHES).is_none() && !label.iter().any(u8::is_ascii_control)).then_some((label, None))
        });
    last.into_iter()
}

fn decode(body: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(body.len());
    for line in body.split(|byte| *byte == b'\n' || *byte == b'\r') {
        // Headers of RFC 1421; base64 has no colon.
        if memchr::memchr(b':', line).is_some() {
            continue;
        }
        if line.iter().any(u8::is_ascii_whitespace) {
            text.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
        } else {
            text.extend_from_slice(line);
        }
    }
    BASE64.decode(text).ok()
}

fn first_element(der: Vec<u8>) -> Option<Vec<u8>> {
    crate::der::Reader(&der).next().map(|element| element.raw.to_vec())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

fn rfind(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::rfind(haystack, needle)
}
