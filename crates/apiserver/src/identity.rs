//! Who a request comes from.

use std::collections::BTreeMap;

/// An authenticated user: what admission webhooks see as `userInfo` and RBAC decides by (K-209).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user's name, such as `system:serviceaccount:default:builder`.
    pub user: String,
    /// The account's UID, empty where the authenticator knows none.
    pub uid: String,
    /// Group names, `system:authenticated` included.
    pub groups: Vec<String>,
    /// Further attributes, such as the pod a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Membership bypasses authorization.
pub(crate) const MASTERS: &str = "system:masters";
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";

impl Identity {
    /// A user with the given groups; `system:authenticated` is added.
    pub fn user(
        name: impl Into<String>,
        groups: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        Self {
            user: name.into(),
            groups,
            ..Self::default()
        }
    }

    /// The in-process administrator: a member of `system:masters`.
    pub fn admin() -> Self {
        Self::user("system:admin", [MASTERS])
    }

    /// The service account `name` of `namespace` (K-211).
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::user(
            format!("system:serviceaccount:{namespace}:{name}"),
            [
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
            ],
        )
    }

    /// Nobody in particular: a request without credentials (K-090).
    pub fn anonymous() -> Self {
        Self {
            user: "system:anonymous".into(),
            groups: vec![UNAUTHENTICATED.into()],
            ..Self::default()
        }
    }

    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}
