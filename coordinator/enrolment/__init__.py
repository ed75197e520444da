"""How devices and operators come by their certificates, and what each may do."""
