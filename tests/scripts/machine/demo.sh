#: modules veth tun bridge
#: seconds 400
# The demo: all that it claims holds on this kernel.
ringway demo
