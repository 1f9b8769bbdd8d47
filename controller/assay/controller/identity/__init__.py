"""Who is who: the certificate authority and how devices join."""
