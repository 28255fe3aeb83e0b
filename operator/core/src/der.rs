//! Reading DER (X.690) far enough to find parts of a certificate or a key by their bytes: webpki's algorithms are
//! named by raw AlgorithmIdentifiers, which x509-parser doesn't keep.

/// SEQUENCE.
pub(crate) const SEQUENCE: u8 = 0x30;
/// INTEGER.
pub(crate) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(crate) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub(crate) const OID: u8 = 0x06;

/// One element of DER.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    /// The identifier octet; tags above 30 aren't read.
    pub(crate) tag: u8,
    /// The contents octets.
    pub(crate) content: &'a [u8],
    /// Identifier, length and contents.
    pub(crate) raw: &'a [u8],
}

/// Walks over elements that stand one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next element; `None` at the end or where it isn't DER.
    pub(crate) fn next(&mut self) -> Option<Element<'a>> {
        let all = self.0;
        let (&tag, rest) = all.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) {
                return None;
            }
            let bytes = rest.get(..count)?;
            rest = rest.get(count..)?;
            bytes.iter().fold(0usize, |sum, byte| (sum << 8) | usize::from(*byte))
        };
        let content = rest.get(..length)?;
        let after = rest.get(length..)?;
        let raw = all.get(..all.len() - after.len())?;
        self.0 = after;
        Some(Element { tag, content, raw })
    }

    /// The next element, if it has this tag; else the reader stays where it is.
    pub(crate) fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.next().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }
}

/// The parts of a certificate that its signature is about.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// TBSCertificate, whole.
    pub(crate) tbs: &'a [u8],
    /// The signature's AlgorithmIdentifier, without its header.
    pub(crate) algorithm: &'a [u8],
    /// The signature.
    pub(crate) signature: &'a [u8],
    /// The issuer's Name, whole.
    pub(crate) issuer: &'a [u8],
    /// The subject's Name, whole.
    pub(crate) subject: &'a [u8],
    /// The key.
    pub(crate) key: PublicKey<'a>,
}

/// A SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
#[derive(Clone, Copy)]
pub(crate) struct PublicKey<'a> {
    /// Its AlgorithmIdentifier, without its header.
    pub(crate) algorithm: &'a [u8],
    /// The key's bits.
    pub(crate) bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// The algorithm's object identifier: its contents octets.
    pub(crate) fn oid(&self) -> Option<&'a [u8]> {
        Reader(self.algorithm).expect(OID).map(|oid| oid.content)
    }
}

/// Finds the parts of a certificate.
pub(crate) fn parts(certificate: &[u8]) -> Option<Parts<'_>> {
    let mut outer = Reader(Reader(certificate).expect(SEQUENCE)?.content);
    let tbs = outer.expect(SEQUENCE)?;
    let algorithm = outer.expect(SEQUENCE)?.content;
    let signature = bits(outer.expect(BIT_STRING)?)?;
    let mut fields = Reader(tbs.content);
    let _version = fields.expect(0xa0);
    fields.expect(INTEGER)?;
    fields.expect(SEQUENCE)?;
    let issuer = fields.expect(SEQUENCE)?.raw;
    let _validity = fields.expect(SEQUENCE)?;
    let subject = fields.expect(SEQUENCE)?.raw;
    let mut spki = Reader(fields.expect(SEQUENCE)?.content);
    let key = PublicKey {
        algorithm: spki.expect(SEQUENCE)?.content,
        bits: bits(spki.expect(BIT_STRING)?)?,
    };
    Some(Parts {
        tbs: tbs.raw,
        algorithm,
        signature,
        issuer,
        subject,
        key,
    })
}

/// The octets of a BIT STRING, whose first one counts the unused bits.
pub(crate) fn bits(element: Element<'_>) -> Option<&[u8]> {
    element.content.split_first().map(|(_, bits)| bits)
}
