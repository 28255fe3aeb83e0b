//! Quoted-printable text.

/// What a mail reader makes of it: RFC 2045 §6.7, as far as a well-formed text needs it.
pub fn quoted_printable(text: &str) -> String {
    let joined = text.replace("\r\n", "\n").replace("=\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'=' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_decoded_as_mail_readers_do() {
        assert_eq!(
            quoted_printable("1 =C2=B7 new=\n, =3D, 100 =\n%="),
            "1 · new, =, 100 %="
        );
    }
}
