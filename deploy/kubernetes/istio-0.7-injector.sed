# Istio 0.5-0.7 and nginmesh 0.7: the webhook's template, ConfigMap istio-inject. The arguments stay as they are, and so
# do other containers that have the same image.
/- name: istio-init$/,/^ *args:/s|^\( *\)image: .*/proxy_init:.*|\1image: prepare-proxy:0.1.0|
