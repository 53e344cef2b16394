create database %s
