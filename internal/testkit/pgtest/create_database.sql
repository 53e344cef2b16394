create database %s template %s
