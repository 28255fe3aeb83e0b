//! Certificates for tests: rcgen's, and DER by hand for what rcgen can't make.

use crate::certificate::Certificate;
use chrono::{DateTime, TimeDelta, Utc};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::{sync::Arc, time::Duration};

/// 2026-01-01 and so many days.
pub(crate) fn day(days: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap() + TimeDelta::days(days)
}

/// What a certificate is made of; days count from 2026-01-01.
pub(crate) struct Spec<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) dns: &'a [&'a str],
    pub(crate) days: (u32, u32),
    pub(crate) ca: bool,
    pub(crate) aia: bool,
    pub(crate) serial: Option<u64>,
}

impl Default for Spec<'_> {
    fn default() -> Self {
        Self {
            common_name: "unnamed",
            dns: &[],
            days: (0, 90),
            ca: false,
            aia: false,
            serial: None,
        }
    }
}

impl Spec<'_> {
    pub(crate) fn params(&self) -> CertificateParams {
        let dns: Vec<String> = self.dns.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(dns).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.common_name);
        let start = date_time_ymd(2026, 1, 1);
        params.not_before = start + Duration::from_secs(u64::from(self.days.0) * 86_400);
        params.not_after = start + Duration::from_secs(u64::from(self.days.1) * 86_400);
        params.use_authority_key_identifier_extension = true;
        params.serial_number = self.serial.map(|serial| serial.to_be_bytes().to_vec().into());
        if self.ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        if self.aia {
            // id-ad-caIssuers, http://ca.example/i.der
            let url = b"http://ca.example/i.der";
            let access = [
                tlv(6, &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02]),
                tlv(0x86, url),
            ];
            let content = tlv(0x30, &tlv(0x30, &access.concat()));
            params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content)];
        }
        params
    }
}

/// A CA.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: Vec<u8>,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_for(name, (0, 3650))
    }

    pub(crate) fn root_for(name: &str, days: (u32, u32)) -> Self {
        Self::root_with(name, days, KeyPair::generate().unwrap())
    }

    pub(crate) fn root_with(name: &str, days: (u32, u32), key: KeyPair) -> Self {
        let params = Spec {
            common_name: name,
            days,
            ca: true,
            ..Spec::default()
        }
        .params();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self {
            issuer: Issuer::new(params, key),
            der,
        }
    }

    pub(crate) fn sub(&self, name: &str, days: (u32, u32)) -> Self {
        self.sub_with(name, days, KeyPair::generate().unwrap())
    }

    pub(crate) fn sub_with(&self, name: &str, days: (u32, u32), key: KeyPair) -> Self {
        let params = Spec {
            common_name: name,
            days,
            ca: true,
            ..Spec::default()
        }
        .params();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self {
            issuer: Issuer::new(params, key),
            der,
        }
    }

    /// Another certificate for this CA's name and key, by another issuer.
    pub(crate) fn cross_signed_by(&self, other: &Self, name: &str, days: (u32, u32)) -> Vec<u8> {
        let params = Spec {
            common_name: name,
            days,
            ca: true,
            ..Spec::default()
        }
        .params();
        params
            .signed_by(self.issuer.key(), &other.issuer)
            .unwrap()
            .der()
            .to_vec()
    }

    pub(crate) fn issue(&self, spec: &Spec<'_>) -> Vec<u8> {
        self.issue_for(spec, &KeyPair::generate().unwrap())
    }

    pub(crate) fn issue_for(&self, spec: &Spec<'_>, key: &KeyPair) -> Vec<u8> {
        spec.params().signed_by(key, &self.issuer).unwrap().der().to_vec()
    }

    /// As many ACME authorities make them.
    pub(crate) fn leaf_without_subject(&self, dns: &str, days: (u32, u32)) -> Vec<u8> {
        self.issue(&Spec {
            dns: &[dns],
            days,
            ..Spec::default()
        })
    }

    pub(crate) fn leaf(&self, dns: &str, days: (u32, u32)) -> Vec<u8> {
        self.issue(&Spec {
            common_name: dns,
            dns: &[dns],
            days,
            ..Spec::default()
        })
    }
}

/// A self-signed certificate that is no CA.
pub(crate) fn self_signed(spec: &Spec<'_>) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    spec.params().self_signed(&key).unwrap().der().to_vec()
}

pub(crate) fn parsed(der: &[u8]) -> Arc<Certificate> {
    Arc::new(Certificate::parse(der, true).unwrap())
}

pub(crate) fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

/// One element of DER.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(u8::try_from(length).unwrap());
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        out.push(0x80 | u8::try_from(bytes.len()).unwrap());
        out.extend(bytes);
    }
    out.extend_from_slice(content);
    out
}

/// A certificate by hand; nobody's signature is under it.
pub(crate) struct Raw {
    pub(crate) version: Option<u8>,
    pub(crate) serial: Vec<u8>,
    /// Attributes of the subject: (last arc of 2.5.4, tag, value).
    pub(crate) subject: Vec<(u8, u8, Vec<u8>)>,
    pub(crate) validity: (&'static str, &'static str),
    /// GeneralNames: (tag, value).
    pub(crate) names: Vec<(u8, Vec<u8>)>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            version: Some(2),
            serial: vec![1],
            subject: Vec::new(),
            validity: ("20260101000000Z", "20270101000000Z"),
            names: Vec::new(),
        }
    }
}

impl Raw {
    pub(crate) fn der(&self) -> Vec<u8> {
        let ecdsa = tlv(0x30, &tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]));
        let attributes: Vec<u8> = self
            .subject
            .iter()
            .flat_map(|(arc, tag, value)| {
                let pair = [tlv(6, &[0x55, 0x04, *arc]), tlv(*tag, value)].concat();
                tlv(0x31, &tlv(0x30, &pair))
            })
            .collect();
        let issuer = tlv(
            0x30,
            &tlv(
                0x31,
                &tlv(0x30, &[tlv(6, &[0x55, 0x04, 0x03]), tlv(0x0c, b"Hand")].concat()),
            ),
        );
        let point: Vec<u8> = [vec![0, 4], vec![7; 64]].concat();
        let algorithm = [
            tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]),
            tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]),
        ]
        .concat();
        let mut tbs = Vec::new();
        if let Some(version) = self.version {
            tbs.extend(tlv(0xa0, &tlv(2, &[version])));
        }
        tbs.extend(tlv(2, &self.serial));
        tbs.extend(&ecdsa);
        tbs.extend(issuer);
        let validity = [
            tlv(0x18, self.validity.0.as_bytes()),
            tlv(0x18, self.validity.1.as_bytes()),
        ];
        tbs.extend(tlv(0x30, &validity.concat()));
        tbs.extend(tlv(0x30, &attributes));
        tbs.extend(tlv(0x30, &[tlv(0x30, &algorithm), tlv(3, &point)].concat()));
        if !self.names.is_empty() {
            let names: Vec<u8> = self.names.iter().flat_map(|(tag, value)| tlv(*tag, value)).collect();
            let san = [tlv(6, &[0x55, 0x1d, 0x11]), tlv(4, &tlv(0x30, &names))].concat();
            tbs.extend(tlv(0xa3, &tlv(0x30, &tlv(0x30, &san))));
        }
        let signature = tlv(3, &[0, 0x30, 0x06, 2, 1, 1, 2, 1, 1]);
        tlv(0x30, &[tlv(0x30, &tbs), ecdsa, signature].concat())
    }
}
