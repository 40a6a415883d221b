// An assembly file lets the functions of direct.go have no body.
