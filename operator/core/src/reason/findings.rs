//! What is said of findings.

use super::{Reason, Texts};
use crate::{finding::Finding, place::Place};

pub(super) fn texts(finding: Finding) -> Texts {
    let (meaning, cause, next_step) = match finding {
        Finding::ExpiringSoon => (
            "A certificate is inside its warning threshold and still valid.",
            "The instant notAfter minus the threshold has passed: by default the later of 21 days and a \
             quarter of its lifetime. A renewal that runs by itself (cert-manager renews at a third) has \
             failed or isn't there.",
            "Find out what renews it and why it hasn't: kubectl -n NAMESPACE describe secret NAME; with \
             cert-manager: kubectl -n NAMESPACE get certificate,certificaterequest,order,challenge.",
        ),
        Finding::ExpiryCritical => (
            "A certificate is inside its critical threshold: little time is left.",
            "As ExpiringSoon; by default the later of 7 days and a tenth of its lifetime.",
            "Renew it now, by hand if need be: kubectl -n NAMESPACE describe secret NAME shows who issued it; \
             with cert-manager: cmctl renew -n NAMESPACE CERTIFICATE.",
        ),
        Finding::Expired => (
            "A certificate's validity has ended. Clients that verify it refuse the connection.",
            "notAfter has passed. For a place that doesn't answer now, this is judged by what was last seen \
             there.",
            "Replace it. If a new one is stored already, the server hasn't loaded it: restart or reload it. \
             kubectl -n NAMESPACE describe secret NAME shows what is stored.",
        ),
        Finding::NotYetValid => (
            "A certificate's validity begins in the future, more than 5 minutes from now.",
            "The issuer's clock, or that of the operator's node, is wrong; or a certificate was installed \
             ahead of its time.",
            "Compare notBefore with the clock of the issuer. Put the former certificate back, or wait until \
             notBefore if nobody uses this one yet.",
        ),
        Finding::HostnameMismatch => (
            "No name in the certificate covers the host that clients ask for. Clients that verify it refuse \
             the connection.",
            "The host isn't among the subject alternative names (a common name never counts, a wildcard \
             covers one label); or the server chose another certificate, its default one for instance.",
            "Issue a certificate that names HOST, or correct the host: kubectl -n NAMESPACE get \
             ingress,certificate -o wide.",
        ),
        Finding::UntrustedIssuer => (
            "No path leads from the certificate to a root that is trusted.",
            "The issuer is private and spec.trust doesn't name its root; or the root has expired or was \
             withdrawn.",
            "If the issuer is meant, put its root into a ConfigMap and name it: spec.trust.caCertificateRefs: \
             [{kind: ConfigMap, name: CA, key: ca.crt}]. Else replace the certificate.",
        ),
        Finding::IncompleteChain => (
            "The certificate is sent or stored without an intermediate that clients need. Some browsers fetch \
             it by themselves, most other clients refuse the connection.",
            "tls.crt holds the leaf alone, or its chain has a gap.",
            "Put the leaf and then its issuers, without the root, into tls.crt: kubectl -n NAMESPACE get \
             secret NAME -o jsonpath='{.data.tls\\.crt}' | base64 -d | grep -c BEGIN counts what is there \
             now.",
        ),
        Finding::IntermediateExpiring => (
            "An intermediate certificate ends before the leaf does, and no other path goes without it. When \
             it ends, the leaf is refused.",
            "The issuer's own certificate is near its end, or an old one is still sent beside the leaf.",
            "Renew the leaf, so that the issuer's present chain comes with it; if the issuer is yours, renew \
             the issuer first.",
        ),
        Finding::KeyMismatch => (
            "The private key beside a certificate doesn't belong to it, is missing, or can't be read. A \
             server that loads both fails.",
            "The certificate was replaced without its key, or the key without its certificate.",
            "Write both again, together: kubectl -n NAMESPACE create secret tls NAME --cert=FILE --key=FILE \
             --dry-run=client -o yaml | kubectl apply -f -",
        ),
        Finding::WeakCrypto => (
            "The key or a signature of the chain is weaker than what is accepted today.",
            "An RSA key below 2048 bits, an elliptic curve below 224 bits, or a signature by SHA-1 or MD5.",
            "Issue the certificate anew with an ECDSA P-256 or an RSA 2048 key and a SHA-256 signature; where \
             an intermediate is named, ask its issuer for a present one.",
        ),
        Finding::PlaceholderCertificate => (
            "A controller's stand-in is where a real certificate should be. It has been there for at least 10 \
             minutes.",
            "The Ingress controller found no usable Secret for the host and serves its own certificate; or \
             cert-manager hasn't got the real one yet and stored a temporary one.",
            "Look at the Ingress and at the Secret that it names: kubectl -n NAMESPACE describe ingress; \
             kubectl -n NAMESPACE get secret,certificate.",
        ),
        Finding::ServedCertificateDiffers => (
            "The server presents another certificate than the one in its Secret, seen twice and for at least \
             10 minutes.",
            "It hasn't reloaded since the renewal, another Ingress or a proxy before it answers for the host, \
             or the Ingress controller doesn't use this Secret.",
            "If the Secret is the newer one, reload what serves it: kubectl rollout restart of the Ingress \
             controller or the server. Else find what answers at HOST:PORT.",
        ),
        Finding::InconsistentServers => (
            "The addresses of one name serve different certificates, seen twice and for at least 10 minutes.",
            "One replica or site hasn't loaded the new certificate, or isn't managed with the others.",
            "The message names addresses; look at each: openssl s_client -connect ADDRESS:PORT -servername \
             HOST </dev/null | openssl x509 -noout -serial -enddate",
        ),
        Finding::Unreachable => (
            "What serves the certificate could not be looked at, probe.failureThreshold (3 by default) times in a \
             row. What was last seen of it keeps counting. It is told at once; where nothing was ever seen, only \
             after 10 minutes, and when a look made then fails too. It ends with the second look in a row that \
             works.",
            "The message has the cause: connection refused, timed out, reset, no route, the resolver failed, \
             a TLS alert, no TLS at that port. After a failure the next looks come after 30 seconds, then 2 \
             minutes, then every 15 minutes, or every probe.interval where that is shorter.",
            "Try it from inside the cluster: kubectl -n NAMESPACE run probe --rm -it --restart=Never \
             --image=curlimages/curl -- curl -vk https://HOST:PORT. A NetworkPolicy may hold back the \
             operator alone.",
        ),
        Finding::NoAddress => (
            "A host has no address to look at. That stands in status from the first look, and is told when it has \
             lasted for 10 minutes and a look made then finds none either.",
            "The name has no A or AAAA record; or the Ingress has no address in its status and DNS has none \
             either. Looks come after 30 seconds, then 2 minutes, then every 15 minutes, or every probe.interval \
             where that is shorter.",
            "kubectl -n NAMESPACE get ingress shows the addresses that a controller wrote; is one installed \
             for its ingressClassName? For a name: nslookup HOST.",
        ),
        Finding::SecretMissing => (
            "A Secret that an Ingress or the monitor names isn't there, or has no certificate; the message says who \
             names it. That stands in status at once, and is told when it has lasted for 10 minutes.",
            "It was deleted, never made, stands in another namespace, or is named with a typing error; or it is of \
             another type: the message names that, and a source looks only at those under its types.",
            "kubectl -n NAMESPACE get secret NAME; what should make it? With cert-manager: kubectl -n \
             NAMESPACE get certificate.",
        ),
        Finding::TargetNotPermitted => (
            "The operator doesn't dial this endpoint, or not every address of it. No packet was sent there.",
            "The address or the port isn't permitted for this namespace by the egress policy. Addresses of the \
             cluster's insides (loopback, link-local, private ranges) and unusual ports are dialled only where the \
             admin allows them, metadata addresses never. The words are the same whatever is behind the address. \
             Or the host is neither a DNS name nor an address: 127.1, 0x7f000001 and 2130706433 are none.",
            "Write the host as a DNS name, four decimal numbers or an IPv6 address. If it is, ask the cluster's \
             admin to allow the range and port for this namespace in the egress policy (chart: egressPolicy), or \
             monitor the Secret instead: spec.sources[].secrets.",
        ),
        Finding::BadCertificateData => (
            "Where a certificate must be, none can be read, or only some of several. What can be read is \
             still checked.",
            "The value is empty, holds a key or another text, is larger than may be read, or a block is \
             damaged.",
            "Look at the value: kubectl -n NAMESPACE get secret NAME -o jsonpath='{.data.tls\\.crt}' | base64 \
             -d | openssl x509 -noout -text",
        ),
        Finding::TooFewCertificates => (
            "A source selects fewer certificates than its minCertificates, for at least 10 minutes.",
            "Objects were deleted or have lost a label, or the selector has a typing error.",
            "kubectl -n NAMESPACE describe certmon MONITOR shows what each source selects; compare with \
             kubectl -n NAMESPACE get secret --show-labels.",
        ),
        Finding::LimitExceeded => (
            "The monitor selects more than it may check. What has an open alert stays checked, then the first \
             by name; the rest is counted in status.certificates.unchecked.",
            "The selector is wider than meant, or limits.maxCertificates is too low.",
            "Narrow the selector, split the monitor, or raise limits.maxCertificates: kubectl -n NAMESPACE \
             edit certmon MONITOR.",
        ),
        Finding::LedgerOverflow => (
            "More findings are open than the monitor's ledger holds (1 MiB). The worst are told; the rest \
             stands in status and metrics only.",
            "Thousands of certificates of one monitor are in trouble at the same time.",
            "Mend the common cause, or split the monitor by a narrower selector.",
        ),
    };
    Texts {
        meaning,
        cause,
        next_step,
    }
}

/// Where a served certificate needs another look than a stored one.
pub(super) fn next_step_at(reason: Reason, place: &Place) -> Option<&'static str> {
    if !matches!(place, Place::Endpoint { .. } | Place::Ingress { .. }) {
        return None;
    }
    match reason {
        Reason::ExpiringSoon | Reason::ExpiryCritical | Reason::Expired => Some(
            "Renew the certificate that HOST:PORT serves; if a new one is installed already, reload the server. What it \
             serves: openssl s_client -connect HOST:PORT -servername HOST </dev/null | openssl x509 -noout -issuer -dates",
        ),
        Reason::HostnameMismatch if matches!(place, Place::Endpoint { .. }) => Some(
            "Issue a certificate that names HOST and install it at the server, or correct the endpoint's serverName (its host, \
             where it has none).",
        ),
        Reason::IncompleteChain => Some(
            "Give the server at HOST:PORT the leaf and then its issuers, without the root. What it sends: openssl \
             s_client -connect HOST:PORT -servername HOST -showcerts </dev/null",
        ),
        Reason::WeakCrypto | Reason::NotYetValid | Reason::KeyMismatch => {
            Some("Replace the certificate that HOST:PORT serves by a present one.")
        }
        Reason::SecretMissing | Reason::PlaceholderCertificate if matches!(place, Place::Ingress { .. }) => Some(
            "Look at the Ingress and at the Secret that it names: kubectl -n NAMESPACE describe ingress NAME; kubectl -n \
             NAMESPACE get secret,certificate",
        ),
        _ => None,
    }
}
