# Istio 0.8 and 1.0: the injector's template, ConfigMap istio-sidecar-injector. The arguments stay as they are; by the
# name istio-iptables.sh they are read as Istio 1.0's. The container enable-core-dump, of the same image, stays too.
/- name: istio-init$/,/^ *args:/s|^\( *\)image: .*/proxy_init:.*|\1image: prepare-proxy:0.1.0\n\1command: ["istio-iptables.sh"]|
