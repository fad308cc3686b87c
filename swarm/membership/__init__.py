"""Who belongs to a group: certificates, how they are checked, and how they are taken back."""
